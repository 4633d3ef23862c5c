"""Count what a variant costs, relative to the first row of its table (FLIP, Table 1), and list the columns of it."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from flip.report import formats
from flip.report.columns import Column, TableRow
from flip.report.results import Results
from flip.report.runs import Run


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


def memory(row: TableRow) -> list[str]:
    return [formats.megabytes(row.cost["peak_memory_bytes"]), f"at batch {row.cost['measured_batch']:,}"]


def length(row: TableRow) -> list[str]:
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
        beside=memory,
        below=memory,
        sort="peak_memory_bytes",
    ),
    Column("peak_memory_bytes", lambda this, first: this.memory),
    Column("measured_batch", lambda this, first: this.batch),
    Column("samples", lambda this, first: this.samples, "samples seen", short=None, page=None, digits=",", unit=""),
]


def relative(this: VariantCost, first: VariantCost) -> dict[str, float]:
    """Return the numbers of all columns by their names in files."""
    return {name: value for one in COLUMNS for name, value in one.named(one.numbers(this, first)).items()}
