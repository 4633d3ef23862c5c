"""Which metrics a test set has: what follows its name, by what it is for. Imports no torch, as every dry run asks."""

import difflib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flip.metrics.names import set_of
from flip.metrics.sets import PAIRS, QUESTIONS, RECALLS, SCORES, TRANSFERS, TUNED, WORLD
from flip.testsets import public

CLASSES = ("", "-probe", TUNED)
MASKED = ("-masked", "-ensemble")  # of the primary set alone
CAPTIONED = tuple(f"-{score}" for score in SCORES)
KINDS = {
    "classification": CLASSES,
    "multilabel": CLASSES,
    "retrieval": tuple(f"-{side}-r{k}" for side in ("image", "text") for k in RECALLS),
    "pointing": ("",),
    "entailment": ("-image", "-text"),
    "composition": tuple(f"-{pair}" for pair in PAIRS),
}
# Those of heads.
LEARNED = {
    "caption": CAPTIONED,
    "nocaps": CAPTIONED,
    "vqa": ("", *(f"-{kind}" for kind in QUESTIONS)),
}
ANY = tuple(dict.fromkeys(ending for endings in KINDS.values() for ending in endings))


@dataclass(frozen=True)
class TestSet:
    """A role of a scale's sets, and where the set is; None: the scale has none. Masked inference is measured on the
    primary one."""

    role: str
    place: str | None
    primary: bool = False

    @cached_property
    def kind(self) -> str | None:
        """What it is for; None where nobody can tell yet, as the folder is not here."""
        if self.role in TRANSFERS:
            return self.role
        if self.role.startswith("retrieval-"):  # captions in another language
            return "retrieval"
        if self.place in ("world", None):
            return WORLD.get(self.role)
        if known := public.at(self.place):
            return known.task
        return _kind_of_folder(Path(self.place))

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """What may follow the role in a metric's name."""
        if self.kind == "vqa" and self.place not in ("world", None):
            return ("",)  # a folder's questions are of no kind
        found = (KINDS | LEARNED).get(self.kind, ANY)
        return (*found, *MASKED) if self.primary else found

    @property
    def is_open(self) -> bool:
        """Whether it may have more metrics: pairs of other kinds, images of several domains."""
        return self.place != "world" and self.kind in ("composition", "caption", "nocaps", None)

    def has(self, ending: str) -> bool:
        domain = self.kind in ("caption", "nocaps")
        return ending in self.endings or (self.is_open and ending != "" and (not domain or ending.endswith(CAPTIONED)))

    def takes(self, other: str) -> bool:
        """Whether the name `other` is that of one of its metrics, or begins some."""
        begun = (f"{self.role}{ending}-" for ending in self.endings if ending)
        longer = other.startswith(f"{self.role}-") and other != self.role
        return longer and (self.is_open or any(one.startswith(f"{other}-") for one in begun))


def _kind_of_folder(folder: Path) -> str | None:
    # Here, as most scales have no folder, and this takes as long to import as all the rest.
    from flip.testsets.layout import stated_kind

    try:
        return stated_kind(folder) if folder.is_dir() else None
    except ValueError:
        return "what is no text"


def fault(metric: str, sets: dict[str, TestSet]) -> str | None:
    """Why there is no such metric; None if there is."""
    try:
        one = sets[set_of(metric, sets)]
    except ValueError as error:
        return f"{error}{_meant(metric, sets)}"
    if one.has(metric.removeprefix(one.role)):
        return None
    return f"metric '{metric}': {one.role} has none{_meant(metric, sets)}; known: {', '.join(_names(one))}"


def _names(one: TestSet) -> list[str]:
    return [one.role + ending for ending in one.endings]


def _meant(metric: str, sets: dict[str, TestSet]) -> str:
    close = difflib.get_close_matches(metric, [name for one in sets.values() for name in _names(one)], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def same_name(sets: dict[str, TestSet]) -> tuple[str, str] | None:
    """A set, and another whose name is that of one of its metrics."""
    return next(((role, other) for role, one in sets.items() for other in sets if one.takes(other)), None)
