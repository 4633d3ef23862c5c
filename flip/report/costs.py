"""What a variant costs, relative to the first row of its table (FLIP, Table 1)."""

from dataclasses import dataclass

import numpy as np

from flip.report.results import Results


@dataclass(frozen=True)
class Cost:
    """Costs of one variant; a run that builds on another includes that one in its totals.

    Times are relative to the cost report's reference variant, one per interleaved round: [rounds]. `batch` is the one
    that time and memory were measured with.
    """

    flops: float
    time: np.ndarray
    memory: int
    batch: int
    samples: int
    total_flops: float
    total_time: np.ndarray


def cost(variant: str, results: Results) -> Cost:
    """Counted FLOPs, measured time and memory of a variant.

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
    return Cost(flops, time, measured["peak_memory_bytes"], measured["batch"], samples, total_flops, total_time)


def _spread(name: str, ratios: np.ndarray) -> dict[str, float]:
    return {name: float(np.median(ratios)), f"{name}_low": float(ratios.min()), f"{name}_high": float(ratios.max())}


def relative(this: Cost, baseline: Cost) -> dict[str, float]:
    """Ratios; times as the median over the rounds, with the smallest and largest round."""
    return {
        "relative_flops": this.flops / baseline.flops,
        **_spread("relative_time", this.time / baseline.time),
        "relative_total_flops": this.total_flops / baseline.total_flops,
        **_spread("relative_total_time", this.total_time / baseline.total_time),
        "relative_memory": this.memory / baseline.memory,
        "peak_memory_bytes": this.memory,
        "measured_batch": this.batch,
        "samples": this.samples,
    }
