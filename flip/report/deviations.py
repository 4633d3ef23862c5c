"""Say how the recipes of a table's rows differ from those of their papers (deviations.yaml)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, reduce
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from flip.config.resolve import Project

FACTS = Path(__file__).with_name("deviations.yaml")


@dataclass(frozen=True)
class Entry:
    """Hold an entry of deviations.yaml, which explains the fields."""

    source: str
    where: dict[str, Any]
    paper: dict[str, Any]
    tasks: tuple[str, ...]
    note: str

    def text(self, project: Project, variant: str) -> str | None:
        """Return what a variant has otherwise than the paper; None if nothing, or if the entry is not of it."""
        if not all(agrees(read(project, variant, key), value) for key, value in self.where.items()):
            return None
        found = {key: read(project, variant, key) for key in self.paper}
        others = [
            f"{key} is {_text(found[key])}, not {_text(value)}"
            for key, value in self.paper.items()
            if found[key] is not None and not _same(found[key], value)
        ]
        said = [*([", ".join(others)] if others else []), *([self.note] if self.note else [])]
        return f"{'; '.join(said)} [{self.source}]" if said else None


@dataclass(frozen=True)
class Deviation:
    """Hold what rows of a table have otherwise than their paper; `mark` stands beside them, unless they are all."""

    text: str
    rows: list[str]
    mark: str | None

    @property
    def note(self) -> str:
        who = f"{self.mark}: {', '.join(self.rows)}" if self.mark else "all rows"
        return f"Unlike the paper ({who}): {self.text}."


@cache
def entries() -> dict[str, Entry]:
    found = yaml.load(FACTS.read_text(), yaml.CSafeLoader)
    plain: dict[str, Any] = {"where": {}, "paper": {}, "tasks": (), "note": ""}
    return {name: Entry(**plain | facts) for name, facts in found.items()}


def read(project: Project, variant: str, key: str) -> Any:
    """Return the value of a parameter, of a property of the schema, or of `tuning_rate`, which is None of a row that is
    not tuned.

    Raises:
        AttributeError: there is no such key.
    """
    params = project.variants[variant]
    if key != "tuning_rate":
        return reduce(getattr, key.split("."), params)
    first = project.variants.get(params.start or "")
    return params.train.base_lr / first.train.base_lr if first else None


def agrees(value: Any, wanted: Any) -> bool:
    """Return whether a value is what `where` says."""
    if isinstance(wanted, dict):
        return not agrees(value, wanted["not"])
    return bool(value) == wanted if isinstance(wanted, bool) else _same(value, wanted)


def _same(value: Any, other: Any) -> bool:
    return _text(value) == _text(other)


def _text(value: Any) -> str:
    """Return a value as text, of which six digits count."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def deviations(project: Project, variants: list[str], tasks: Iterable[str]) -> list[Deviation]:
    """Return how the rows of a table differ from their papers; rows of which the same is to be said share one."""
    shown, groups = set(tasks), dict[str, list[str]]()
    for entry in entries().values():
        if not entry.tasks or shown & {*entry.tasks}:
            for variant in variants:
                if text := entry.text(project, variant):
                    groups.setdefault(text, []).append(variant)
    found, marks = [], count(1)
    for text, rows in groups.items():
        every = len(rows) == len(variants)
        found.append(Deviation(text, rows, None if every else f"d{next(marks)}"))
    return found
