"""Compare all variants, as they are here or in other states of the project: metrics, costs, data.

Everything is read from receipts, which Git keeps: nothing has to be pulled, and results count that Snakemake made on
a cluster without DVC.
"""

import statistics
from collections.abc import Sequence

import pandas as pd

from flip.config.faults import must_know
from flip.config.resolve import Project
from flip.report.evaluated import Evaluated, costs, evaluated, means, receipts

WIDTH = 120  # columns of a terminal
COSTS = ("relative_time", "training_hours", "samples", "seeds")
# Beside metrics and costs: what a row is of, which is shown where rows differ in it.
ORIGINS = ("state", "manifest", "commit", "device")


def row(runs: list[Evaluated], cost: dict | None) -> dict:
    """Return a row of one variant: means over its seeds."""
    training = [run.training["facts"]["training"] for run in runs]
    measured = {"relative_time": statistics.median(cost["relative_rounds"])} if cost else {}
    return {
        **means([run.metrics for run in runs]),
        **measured,
        "training_hours": sum(one["seconds"] for one in training) / 3600,
        "samples": training[0]["samples"],
        "images": training[0]["images"],
        "seeds": len(runs),
        "manifest": training[0]["manifest"][:12],
        "commit": (runs[0].receipt["git"]["commit"] or "")[:10] + ("+" if runs[0].receipt["git"]["changed"] else ""),
        "device": training[0]["device"],
    }


def rows(found: dict[str, dict]) -> dict[str, dict]:
    """Return the rows of variants that have been evaluated, from the receipts of one state."""
    measured = costs(found)
    return {variant: row(runs, measured.get(variant)) for variant, runs in evaluated(found).items()}


def compare(states: list[str], scale: str) -> pd.DataFrame:
    """Return a row per variant and state, variants in the order of the first state.

    Raises:
        ValueError: an unknown state, or one without results of the scale.
    """
    found = {state: rows(receipts(state, scale)) for state in states}
    for state, variants in found.items():
        if not variants:
            raise ValueError(f"'{state}': no results of scale '{scale}'; `snakemake ablations` makes them")
    order = dict.fromkeys(variant for variants in found.values() for variant in variants)
    lines = [
        {"variant": variant, "state": state} | variants[variant]
        for variant in order
        for state, variants in found.items()
        if variant in variants
    ]
    frame = pd.DataFrame(lines)
    return frame if len(states) > 1 else frame.drop(columns="state")


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are metrics."""
    return [name for name in frame if name not in {"variant", "images", *COSTS, *ORIGINS}]


def leading(project: Project, frame: pd.DataFrame) -> list[str]:
    """Return the metrics that rows have: the primary set's, those of the tables, all others."""
    shown = (str(metric) for table in project.tables for metric in project.metrics(table))
    order = dict.fromkeys([project.primary_set, *shown, *metrics_of(frame)])
    return [name for name in order if name in frame]


def as_text(frame: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Return rows with these metrics, their costs, and where they differ what they are of."""
    origins = [name for name in ORIGINS if name in frame and frame[name].nunique() > 1]
    columns = ["variant", *origins, *metrics, *(name for name in COSTS if name in frame)]
    return frame[columns].to_string(index=False, float_format="{:.2f}".format, na_rep="-")


def fitting(frame: pd.DataFrame, metrics: list[str]) -> str:
    """Return `as_text` with as many metrics, from the first on, as a terminal has room for, and at least one."""
    for count in range(len(metrics), 0, -1):
        text = as_text(frame, metrics[:count])
        if len(text.partition("\n")[0]) <= WIDTH:
            break
    left = len(metrics) - count
    return f"{text}\n{left} more metrics: --metrics NAME,NAME shows some, --csv and --json all" if left else text


def chosen(frame: pd.DataFrame, names: str) -> str:
    """Return `as_text` with the metrics of these names, which have commas between them.

    Raises:
        ParameterError: no row has such a metric.
    """
    wanted = [name.strip() for name in names.split(",")]
    must_know(wanted, metrics_of(frame), "metric", "--metrics")
    return as_text(frame, wanted)
