"""Compare the systems of a table at several lengths of training: whether their order has settled.

    python -m benchmarks.order                           # after `snakemake data`: 45 minutes on one core
    python -m benchmarks.order --lengths 1 2             # a third of it

Each variant of the table `systems` trains as long as params.yaml says (length 1) and longer, warm-up alike, at its own
swept rate and one seed, and is scored on the validation set: zero-shot, and by a linear probe where it has no text
tower. Ranks are within these two groups. Rates were swept at length 1, so longer rows may be below their best. Variants
that begin with another's weights are left out. What was trained before is kept in --out, and not trained again; nor is
length 1 of what a sweep has measured.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from scipy.stats import kendalltau

from flip.config.frozen import dump
from flip.config.resolve import Project, read_project
from flip.config.schema import Params
from flip.files import read_json, write_atomic
from flip.provenance.layout import Layout
from flip.provenance.specs import is_chosen

TABLE = "systems"
Scores = dict[str, list[float]]  # by variant, one per length


def longer(params: Params, length: float) -> dict[str, float]:
    """Return the schedule of `length` times the samples, by dotted keys."""
    train = params.train
    return {
        "train.epochs_scale": train.epochs_scale * length,
        "train.warmup_scale": train.warmup_scale * length,
    }


def swept(project: Project, variant: str) -> dict:
    """Return what a sweep has measured with the rate that it chose: {"metric", "score"}."""
    choice = project.choices[variant]
    (best,) = (one for one in choice["candidates"] if one["values"] == choice["values"])
    return {"metric": choice["metric"], "score": best["score"]}


def score(project: Project, variant: str, length: float, data: Path, out: Path, threads: int) -> dict:
    """Train and score, or read what was scored before: {"metric", "score" in percent, ...}."""
    folder, params = out / variant / f"{length:g}", project.variants[variant]
    path = folder / "params.yaml"
    if not (folder / "score.json").exists():
        if length == 1 and is_chosen(project, variant):
            return swept(project, variant)
        write_atomic(path, dump(params))
        words = ["--params", path, "--values", json.dumps(longer(params, length)), "--data", data, "--seed", "0"]
        words += ["--checkpoints", folder / "checkpoints", "--out", folder, "--threads", threads]
        subprocess.run([sys.executable, "-m", "flip.sweep", *map(str, words)], check=True)
    return read_json(folder / "score.json")


def groups(found: dict[str, list[dict]]) -> Iterator[tuple[str, Scores]]:
    """Yield each metric with the scores of the variants that are measured by it."""
    for metric in dict.fromkeys(scores[0]["metric"] for scores in found.values()):
        yield (
            metric,
            {name: [one["score"] for one in scores] for name, scores in found.items() if scores[0]["metric"] == metric},
        )


def ranks(values: list[float]) -> list[int]:
    """Return the rank of each value, the largest first: 1; equal ones share the better."""
    return [1 + sum(other > value for other in values) for value in values]


def markdown(metric: str, scores: Scores, lengths: list[float]) -> Iterator[str]:
    """Yield the lines of a table: percent and rank per length, and Kendall's tau between each and the one before."""
    columns = [list(column) for column in zip(*scores.values(), strict=True)]
    placed = list(zip(*map(ranks, columns), strict=True))
    yield f"| {metric}, % (rank) | " + " | ".join(f"{length:g}x" for length in lengths) + " |"
    yield "| --- |" + " --- |" * len(lengths)
    for (name, values), places in zip(scores.items(), placed, strict=True):
        yield f"| {name} | " + " | ".join(f"{v:.1f} ({n})" for v, n in zip(values, places, strict=True)) + " |"
    if len(scores) == 1 or len(lengths) == 1:
        return
    agreed = [kendalltau(*pair).statistic for pair in pairwise(columns)]
    yield "| Kendall's tau with the length before | | " + " | ".join(f"{value:.2f}" for value in agreed) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="tiny", help="whose data is there (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", help="default: those of the table systems")
    parser.add_argument("--lengths", type=float, nargs="+", default=[1, 2, 4], help="default: 1 2 4")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, default=Path(".flip/order"), help="default: %(default)s")
    options = parser.parse_args(argv)
    project, data = read_project(scale=options.scale), Path(Layout(options.scale).data)
    variants = options.variants or project.tables[TABLE].variants
    found = {
        name: [score(project, name, length, data, options.out, options.threads) for length in options.lengths]
        for name in variants
        if not project.variants[name].before
    }
    for metric, scores in groups(found):
        print("\n".join(markdown(metric, scores, options.lengths)), end="\n\n")


if __name__ == "__main__":
    main()
