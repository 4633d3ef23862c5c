"""Describe public test sets in clip-benchmark's webdataset layout, as evaluate.sets names them: wds/cars@<commit>."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from flip.metrics.measures import ACCURACY, undefined

FACTS = Path(__file__).with_suffix(".yaml")
PREFIX = "wds/"
MIRRORS = Path("testsets")  # one copy for all scales


@dataclass(frozen=True)
class PublicSet:
    """Hold a line of public.yaml, which explains the fields."""

    paper: str
    hub: str | None
    task: str
    classes: int
    sources: tuple[int, ...]
    measure: str = ACCURACY
    prompts: tuple[str, ...] | None = None

    def undefined(self, measure: str) -> str | None:
        """Return why it has no such measure; None if it has."""
        if self.task == "retrieval":
            return None if measure == ACCURACY else f"{measure} is for sets with classes, and these have captions"
        return undefined(measure, self.classes, self.task == "multilabel")


@cache
def known() -> dict[str, PublicSet]:
    found = yaml.load(FACTS.read_text(), yaml.CSafeLoader)
    return {name: PublicSet(**facts) for name, facts in found.items()}


@cache
def mirrored() -> dict[Path, PublicSet]:
    """Return the public sets by their folders."""
    return {MIRRORS / Path(one.hub).name: one for one in known().values() if one.hub}


def is_public(place: str) -> bool:
    return place.startswith(PREFIX)


def named(place: str) -> PublicSet:
    return known()[place.split("@")[0]]


def at(place: str) -> PublicSet | None:
    """Return the public set of a place: one that is named, or a folder testsets/<data set on the hub>; None of
    others."""
    if is_public(place):
        return named(place)
    return mirrored().get(Path(place))


def of_folder(folder: Path) -> PublicSet | None:
    """Return the public set that lies in a folder, a copy's or that of one commit; None of others."""
    return mirrored().get(folder) or mirrored().get(folder.parent)


def commit(place: str) -> str:
    return place.split("@")[1]


def folder(place: str) -> Path:
    """Return the folder of a set from elsewhere: a public one's mirror, or the folder that is named."""
    if not is_public(place):
        return Path(place)
    hub = named(place).hub
    assert hub is not None, place
    return MIRRORS / Path(hub).name / commit(place)


def fault(place: str) -> str | None:
    """Return what is wrong with the name of a public set; None if nothing."""
    name, _, pinned = place.partition("@")
    if name not in known():
        there = ", ".join(one for one, facts in known().items() if facts.hub)
        return (
            f"'{name}' is no public set of flip/config/public.yaml; allowed: {there}; or a folder that begins with ./"
        )
    if known()[name].hub is None:
        return f"clip-benchmark publishes no {name} on the hub; name a folder, and its measure in evaluate.measures"
    if not re.fullmatch("[0-9a-f]{40}", pinned):
        return (
            f"'{place}' is not pinned: write {name}@COMMIT, a full commit of {named(name).hub}; "
            f"`flip mirror pin` writes today's"
        )
    return None
