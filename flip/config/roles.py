"""Decide which metrics a test set has: what follows its name, by what it is for.

Imports no torch, as every dry run asks.
"""

import difflib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flip.config import public
from flip.config.kinds import KINDS, LEARNED
from flip.config.kinds.kind import Kind
from flip.formats.layout import stated_kind
from flip.metrics.names import INFERENCE, Metric
from flip.metrics.sets import TRANSFERS, WORLD

OTHERWISE = tuple(f"-{task}" for task in INFERENCE)  # measured of the primary set alone
ANY = tuple(dict.fromkeys(ending for kind in KINDS.values() for ending in kind.endings))


@dataclass(frozen=True)
class TestSet:
    """Describe a role of a scale's sets, and the place of the set; None: the scale has none. Masked inference is
    measured on the primary one."""

    role: str
    place: str | None
    primary: bool = False

    @cached_property
    def kind(self) -> str | None:
        """Return its kind; None if unknown, as the folder does not exist yet."""
        if self.role in TRANSFERS:
            return self.role
        if self.role.startswith("retrieval-"):  # captions in another language
            return "retrieval"
        if self.place in ("world", None):
            return WORLD.get(self.role)
        if known := public.at(self.place):
            return known.task
        return _kind_of_folder(Path(self.place))

    @property
    def _declared(self) -> Kind | None:
        """Return the declaration of its kind; None if that is unknown, or none."""
        return None if self.kind is None else (KINDS | LEARNED).get(self.kind)

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """Return what may follow the role in a metric's name."""
        found = self._declared.endings_at(self.place) if self._declared else ANY
        return (*found, *OTHERWISE) if self.primary else found

    @property
    def is_open(self) -> bool:
        """Return whether it may have more metrics: pairs of other kinds, images of several domains."""
        return self.place != "world" and (self.kind is None or (self._declared is not None and self._declared.is_open))

    def has(self, ending: str) -> bool:
        """Return whether it has a metric of this ending, as far as anybody can tell."""
        if ending in self.endings or not self.is_open:
            return ending in self.endings
        return self._declared.may_have(ending) if self._declared else ending != ""

    def takes(self, other: str) -> bool:
        """Return whether the name `other` is that of one of its metrics, or the beginning of some."""
        begun = (f"{self.role}{ending}-" for ending in self.endings if ending)
        longer = other.startswith(f"{self.role}-") and other != self.role
        return longer and (self.is_open or any(one.startswith(f"{other}-") for one in begun))


def _kind_of_folder(folder: Path) -> str | None:
    try:
        return stated_kind(folder) if folder.is_dir() else None
    except ValueError:
        return "what is no text"


def fault(metric: str, sets: dict[str, TestSet]) -> str | None:
    """Return why there is no such metric; None if there is."""
    try:
        parsed = Metric.parse(metric, sets)
    except ValueError as error:
        return f"{error}{_meant(metric, sets)}"
    one = sets[parsed.set]
    if one.has(parsed.ending):
        return None
    return f"metric '{metric}': {one.role} has none{_meant(metric, sets)}; known: {', '.join(_names(one))}"


def _names(one: TestSet) -> list[str]:
    return [one.role + ending for ending in one.endings]


def _meant(metric: str, sets: dict[str, TestSet]) -> str:
    close = difflib.get_close_matches(metric, [name for one in sets.values() for name in _names(one)], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def same_name(sets: dict[str, TestSet]) -> tuple[str, str] | None:
    """Return a set, and another whose name is that of one of its metrics."""
    return next(((role, other) for role, one in sets.items() for other in sets if one.takes(other)), None)
