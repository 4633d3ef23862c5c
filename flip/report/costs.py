"""Count what a variant costs, relative to the first row of its table (FLIP, Table 1), and say which columns show it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from markupsafe import Markup

from flip.report import formats
from flip.report.results import Results, Run


class HasCosts(Protocol):
    """Describe what columns read of a row of a table (flip.report.cells.TableRow): its costs, and the paper's, by
    column."""

    @property
    def cost(self) -> dict[str, float]: ...

    @property
    def paper_cost(self) -> dict[str, float]: ...

    @property
    def evidence(self) -> dict: ...


@dataclass(frozen=True)
class VariantCost:
    """Hold the costs of one variant; a run that builds on another includes that one in its totals.

    Times are relative to the cost report's reference variant, one per interleaved round: [rounds]. `batch` is the one
    that time and memory were measured with; `run` is the variant's own training.
    """

    run: Run
    flops: float
    time: np.ndarray
    memory: int
    batch: int
    samples: int
    total_flops: float
    total_time: np.ndarray


def cost(variant: str, results: Results) -> VariantCost:
    """Return counted FLOPs, measured time and memory of a variant.

    Raises:
        ValueError: cost.json does not have the variant.
    """
    run = results.runs[variant]
    if variant not in results.cost["variants"]:
        raise ValueError(f"cost.json: no variant '{variant}'; `snakemake ablations` measures it")
    measured = results.cost["variants"][variant]
    flops, time = measured["flops_per_sample"], np.array(measured["relative_rounds"])
    samples, total_flops, total_time = run.samples, flops * run.samples, time * run.samples
    for name in run.params.before:
        before = cost(name, results)
        samples += before.samples
        total_flops += before.total_flops
        total_time = total_time + before.total_time
    return VariantCost(
        run, flops, time, measured["peak_memory_bytes"], measured["batch"], samples, total_flops, total_time
    )


@dataclass(frozen=True)
class Column:
    """Hold one column of costs: its title, its value in each row, and whether the paper has values of it.

    A column with no more than `key`, `value` and `title` stands in Markdown, in LaTeX, on the page, and in CSV and
    Parquet under its key; None for the title of one of them leaves it out there.

    Attributes:
        key: its name in files, and in paper.yaml.
        value: (costs of a row, costs of the first row) -> a number, or one per round: [rounds].
        title: heading in Markdown; None: its numbers are in CSV and Parquet alone.
        short: heading in LaTeX ("" is `title`).
        page: heading on the page ("" is `title`); columns with one heading share a cell.
        form: its number as text.
        text: what Markdown shows of a row in place of number and range.
        below: what else the page shows of a row.
        sort: key of what the page sorts by ("" is `key`).
        paper: whether paper.yaml has values of it.
    """

    key: str
    value: Callable[[VariantCost, VariantCost], float | np.ndarray]
    title: str | None = None
    short: str | None = ""
    page: str | None = ""
    form: Callable[[float], str] = formats.times
    text: Callable[[HasCosts], str] | None = None
    below: Callable[[HasCosts], list[str]] = lambda row: []
    sort: str = ""
    paper: bool = False

    @property
    def in_latex(self) -> str | None:
        return self.title if self.short == "" else self.short

    @property
    def on_page(self) -> str | None:
        return self.title if self.page == "" else self.page

    def numbers(self, this: VariantCost, first: VariantCost) -> dict[str, float]:
        """Return its number by its key; of several rounds the median, the smallest and the largest."""
        found = self.value(this, first)
        if not isinstance(found, np.ndarray):
            return {self.key: found}
        return {
            self.key: float(np.median(found)),
            f"{self.key}_low": float(found.min()),
            f"{self.key}_high": float(found.max()),
        }

    def number(self, row: HasCosts) -> str:
        return self.form(row.cost[self.key])

    def range(self, row: HasCosts) -> str:
        """Return the range over the rounds as text; nothing where there is one number, or two digits show none."""
        return formats.around(row.cost, self.key) if f"{self.key}_low" in row.cost else ""

    def markdown(self, row: HasCosts) -> str:
        text = self.text(row) if self.text else f"{self.number(row)} {self.range(row)}".strip()
        printed = self.printed(row)
        return text if printed is None else f"{text}<br>paper {self.form(printed)}"

    def printed(self, row: HasCosts) -> float | None:
        """Return the paper's value in a row, if it has one."""
        return row.paper_cost.get(self.key)


def memory(row: HasCosts) -> list[str]:
    return [formats.megabytes(row.cost["peak_memory_bytes"]), f"at batch {row.cost['measured_batch']:,}"]


def length(row: HasCosts) -> list[str]:
    return [f"{row.cost['samples']:,} samples", f"{row.evidence['steps']:,} steps"]


PER_SAMPLE = Markup("FLOPs, time<br>per sample")
# In the order of all tables and files.
COLUMNS = [
    Column(
        "relative_flops",
        lambda this, first: this.flops / first.flops,
        "FLOPs per sample",
        short="FLOPs",
        page=PER_SAMPLE,
        paper=True,
    ),
    Column(
        "relative_time",
        lambda this, first: this.time / first.time,
        "time per sample",
        short="time",
        page=PER_SAMPLE,
        paper=True,
    ),
    Column("relative_total_flops", lambda this, first: this.total_flops / first.total_flops),
    Column(
        "relative_total_time",
        lambda this, first: this.total_time / first.total_time,
        "total time",
        page=Markup("Training<br>time"),
        below=length,
    ),
    Column(
        "relative_memory",
        lambda this, first: this.memory / first.memory,
        "peak memory",
        short="memory",
        page=Markup("Peak<br>memory"),
        text=lambda row: f"{formats.times(row.cost['relative_memory'])} ({' '.join(memory(row))})",
        below=memory,
        sort="peak_memory_bytes",
    ),
    Column("peak_memory_bytes", lambda this, first: this.memory),
    Column("measured_batch", lambda this, first: this.batch),
    Column("samples", lambda this, first: this.samples, "samples seen", short=None, page=None, form="{:,}".format),
]


def in_markdown() -> list[Column]:
    return [one for one in COLUMNS if one.title]


def in_latex() -> list[Column]:
    return [one for one in COLUMNS if one.in_latex]


def on_page() -> list[tuple[str, list[Column]]]:
    """Return the columns of the page: heading, the columns that share it."""
    shown = [one for one in COLUMNS if one.on_page]
    return [(heading, list(some)) for heading, some in groupby(shown, key=lambda one: one.on_page)]


def in_paper() -> list[Column]:
    return [one for one in COLUMNS if one.paper]


def relative(this: VariantCost, first: VariantCost) -> dict[str, float]:
    """Return the numbers of all columns by their names in files."""
    return {name: value for one in COLUMNS for name, value in one.numbers(this, first).items()}
