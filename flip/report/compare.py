"""Compare all variants, as they are here or in other states of the project: metrics, costs, data.

    python -m flip.report.compare                       what is here
    python -m flip.report.compare main . my-experiment  Git revisions, `.` (what is here), names of DVC's experiments
    python -m flip.report.compare --csv > runs.csv

Everything is read from receipts, which Git keeps: nothing has to be pulled, and results count that Snakemake made on
a cluster without DVC.
"""

import argparse
import statistics
from collections.abc import Sequence

import pandas as pd

from flip.config.faults import ParameterError
from flip.config.resolve import read_project
from flip.report.evaluated import HERE, Evaluated, costs, evaluated, means, receipts


def row(runs: list[Evaluated], cost: dict | None) -> dict:
    """Return a row of one variant: means over its seeds."""
    training = [run.training["facts"]["training"] for run in runs]
    measured = {"relative_time": statistics.median(cost["relative_rounds"])} if cost else {}
    return {
        **means([run.metrics for run in runs]),
        **measured,
        "training_hours": sum(one["seconds"] for one in training) / 3600,
        "samples": training[0]["samples"],
        "pictures": training[0]["pictures"],
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


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.report.compare", description=__doc__.splitlines()[0])
    parser.add_argument("states", nargs="*", default=[HERE], help="Git revisions, experiments, or . (default)")
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    parser.add_argument("--metrics", nargs="+", help="columns of metrics to show (default: those of the tables)")
    parser.add_argument("--csv", action="store_true", help="every column, as CSV")
    options = parser.parse_args(argv)
    try:
        project = read_project(scale=options.scale)
        frame = compare(options.states, project.scale)
    except (ParameterError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    if options.csv:
        print(frame.to_csv(index=False), end="")
        return
    wanted = options.metrics or dict.fromkeys(m for table in project.tables.values() for m in table.metrics)
    facts = ["relative_time", "training_hours", "samples", "pictures", "manifest", "commit"]
    shown = [name for name in ("variant", "state", *wanted, *facts) if name in frame]
    print(frame[shown].to_string(index=False, float_format="{:.2f}".format, na_rep="-"))


if __name__ == "__main__":
    main()
