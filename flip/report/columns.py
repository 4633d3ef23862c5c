"""Define a column of a table, of a metric or of a cost alike, and what it shows of a row."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from flip.metrics.names import Metric
from flip.report import formats
from flip.report.labels import column

if TYPE_CHECKING:
    from flip.report.costs import VariantCost
    from flip.report.deviations import Deviation

COLUMNS = 8  # of a table, the rows' names among them, that the page and the docs are wide enough for
Kind = TypeVar("Kind")
# What CSV and Parquet have of a metric besides its value.
BESIDE = ("low", "high", "difference", "difference_low", "difference_high", "reference", "paper", "verdict")


@dataclass(frozen=True)
class Column:
    """Hold one column of a table: what it shows, its headings, and how its numbers are written.

    One with no more than `key`, `value` and `title` stands in Markdown, in LaTeX, on the page, and in CSV and Parquet
    under its key; None for the title of one of them leaves it out there.

    Attributes:
        key: its name in files, and in paper.yaml.
        value: a metric; or (costs of a row, costs of the first row) -> a number, or one per round: [rounds].
        title: heading in Markdown; None: its numbers are in CSV and Parquet alone.
        short: heading in LaTeX ("" is `title`).
        page: heading on the page ("" is `title`); columns with one heading share a cell.
        digits: format of its numbers.
        unit: what follows a number.
        beside: what else Markdown shows of a row, in brackets.
        below: what else the page shows of a row.
        sort: key of the column that the page sorts by ("" is `key`).
        paper: whether every record of tables.csv has the paper's value of it.
    """

    key: str
    value: "Metric | Callable[[VariantCost, VariantCost], float | np.ndarray]"
    title: str | None = None
    short: str | None = ""
    page: str | None = ""
    digits: str = ".2f"
    unit: str = "x"
    beside: "Callable[[TableRow], list[str]]" = lambda row: []
    below: "Callable[[TableRow], list[str]]" = lambda row: []
    sort: str = ""
    paper: bool = False

    @property
    def metric(self) -> Metric | None:
        return self.value if isinstance(self.value, Metric) else None

    @property
    def in_latex(self) -> str | None:
        return self.title if self.short == "" else self.short

    @property
    def on_page(self) -> str | None:
        return self.title if self.page == "" else self.page

    def numbers(self, this: "VariantCost", first: "VariantCost") -> dict[str, float]:
        """Return the value of a cost; of several rounds the median, the smallest and the largest."""
        assert not isinstance(self.value, Metric)
        found = self.value(this, first)
        if not isinstance(found, np.ndarray):
            return {"value": found}
        return {"value": float(np.median(found)), "low": float(found.min()), "high": float(found.max())}

    def named(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """Return numbers by their names in files, which begin with its key."""
        return {self.key if name == "value" else f"{self.key}_{name}": number for name, number in numbers.items()}


def of_metric(metric: Metric) -> Column:
    name = column(metric)
    return Column(str(metric), metric, f"{name}, %", page=name, digits=".1f", unit="")


@dataclass(frozen=True)
class Cell:
    """Hold what a column shows of a row: metrics in percent and percentage points. Fields without a comparison are
    None, and so are all of a metric that was not measured, for the reason in `missing`. The p-value is that of no
    difference, before Holm's correction; the verdict is one of flip.report.verdicts."""

    column: Column
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    paper: float | None = None
    paper_difference: float | None = None
    paper_noise: float | None = None
    p_value: float | None = None
    verdict: str | None = None
    missing: str | None = None

    @property
    def metric(self) -> Metric | None:
        return self.column.metric

    def _text(self, number: float) -> str:
        return f"{number:{self.column.digits}}{self.column.unit}"

    @property
    def number(self) -> str:
        """Format the value; a dash if the metric was not measured."""
        return "-" if self.value is None else self._text(self.value)

    @property
    def range(self) -> str:
        """Format the interval, or the range over rounds; nothing without one, or where digits show none of rounds."""
        if self.low is None:
            return ""
        low, high = (f"{one:{self.column.digits}}" for one in (self.low, self.high))
        return "" if low == high and not self.metric else f"[{low}, {high}]"

    @property
    def text(self) -> str:
        return f"{self.number} {self.range}".strip()

    @property
    def compared(self) -> str:
        """Format the difference as '+1.3 [-0.4, +3.1]', of one run '+1.3', or nothing without a row to compare with."""
        if self.difference is None:
            return ""
        if self.difference_low is None or self.difference_high is None:
            return f"{self.difference:+.1f}"
        return formats.interval(self.difference, self.difference_low, self.difference_high, "+.1f")

    @property
    def printed(self) -> str:
        """Format the paper's value and its own difference."""
        if self.paper is None:
            return ""
        return self._text(self.paper) + (
            f" ({self.paper_difference:+.1f})" if self.paper_difference is not None else ""
        )

    def fields(self) -> dict[str, Any]:
        """Return everything but the column, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)[1:]}

    def in_files(self) -> dict[str, Any]:
        """Return its numbers by their names in files; of a cost only those that it has."""
        every = {name: getattr(self, name) for name in ("value", *BESIDE)}
        if self.metric is None:
            every = {name: every[name] for name in ("value", "low", "high") if every[name] is not None}
        return self.column.named(every)


@dataclass(frozen=True)
class TableRow:
    """Hold one variant of a table, with a cell per column, and what it has otherwise than its paper."""

    variant: str
    label: str
    cells: list[Cell]
    evidence: dict
    deviations: "list[Deviation]"

    def __getitem__(self, key: str) -> Cell:
        """Return the cell of the column with a key."""
        return next(cell for cell in self.cells if cell.column.key == key)

    @property
    def metrics(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.metric]

    @property
    def marks(self) -> str:
        """Return the marks of the notes about this row, and not about all."""
        return " ".join(one.mark for one in self.deviations if one.mark)

    @property
    def behind(self) -> dict[str, Any]:
        """Return what files say of where its numbers come from."""
        return self.evidence | {"deviations": "; ".join(one.text for one in self.deviations)}

    @cached_property
    def cost(self) -> dict[str, float]:
        """Return the numbers of all costs by their names in files."""
        return {name: number for cell in self.cells if not cell.metric for name, number in cell.in_files().items()}

    def sort_key(self, one: Column) -> float | str:
        """Return what the page sorts a row by; nothing where it was not measured."""
        value = self[one.sort or one.key].value
        return "" if value is None else value


def folded(shown: list[Kind], is_metric: Callable[[Kind], bool]) -> list[list[Kind]]:
    """Split what a wide table shows into groups of at most COLUMNS, the rows' names among them: the first metrics with
    all costs, then the other metrics."""
    if len(shown) < COLUMNS:
        return [shown]
    measured, costs = [one for one in shown if is_metric(one)], [one for one in shown if not is_metric(one)]
    first, size = max(COLUMNS - 1 - len(costs), 1), COLUMNS - 1
    rest = measured[first:]
    return [measured[:first] + costs, *(rest[place : place + size] for place in range(0, len(rest), size))]


def page_groups(cells: Iterable[Cell]) -> list[list[tuple[str | None, list[Cell]]]]:
    """Return what `on_page` does, as `folded`."""
    return folded(on_page(cells), lambda shown: shown[1][0].metric is not None)


def on_page(cells: Iterable[Cell]) -> list[tuple[str | None, list[Cell]]]:
    """Return the cells of a row that the page shows, by heading."""
    shown = [cell for cell in cells if cell.column.on_page]
    return [(heading, list(some)) for heading, some in groupby(shown, key=lambda cell: cell.column.on_page)]
