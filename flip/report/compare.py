"""Compare all variants, as they are here or in other states of the project: metrics, costs, data.

    python -m flip.report.compare                       what is here
    python -m flip.report.compare main . my-experiment  Git revisions, `.` (what is here), names of DVC's experiments
    python -m flip.report.compare --csv > runs.csv

Everything is read from receipts, which Git keeps: nothing has to be pulled, and results count that Snakemake made on
a cluster without DVC.
"""

import argparse
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from flip.config.faults import ParameterError
from flip.config.resolve import read_project
from flip.provenance.layout import Layout
from flip.provenance.receipt import parse, read

HERE = "."


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip() or f"git {' '.join(words)} failed")
    return done.stdout


def resolve(state: str) -> str:
    """Return the commit of a Git revision or of an experiment of DVC.

    Raises:
        ValueError: neither has that name.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", f"{state}^{{commit}}").strip()
    except ValueError:
        found = [
            line.split() for line in git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").split("\n")
        ]
        names = {ref.rsplit("/", 1)[1]: commit for commit, ref in filter(None, found)}
        if state in names:
            return names[state]
    known = f"; experiments: {', '.join(sorted(names))}" if names else ""
    raise ValueError(f"'{state}': no Git revision and no experiment of DVC{known}; `dvc exp list` shows them")


def receipts(state: str, scale: str) -> dict[str, dict]:
    """Return all receipts of a scale at a state, by path below receipts/<scale>/.

    Raises:
        ValueError: one was edited since it was written.
    """
    root = Path(Layout(scale).receipts.root)
    if state == HERE:
        return {str(path.relative_to(root)): read(path) for path in sorted(root.rglob("*.json"))}
    commit = resolve(state)
    paths = git("ls-tree", "-r", "--name-only", commit, f"{root}/").splitlines()
    texts = {path: git("show", f"{commit}:{path}") for path in paths}
    old = not git("ls-tree", "--name-only", commit, "flip/provenance/sources.py")  # came with seals
    return {str(Path(path).relative_to(root)): parse(path, text, old) for path, text in texts.items()}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def row(runs: list[tuple[dict, dict, dict]], cost: dict | None) -> dict:
    """Return a row of one variant: means over its seeds of (training, evaluation, metrics), from the receipts of the
    first two."""
    training = [before["facts"]["training"] for before, _, _ in runs]
    evaluated = [metrics for _, _, metrics in runs]
    measured = {"relative_time": statistics.median(cost["relative_rounds"])} if cost else {}
    return {
        **{
            metric: mean([one[metric] for one in evaluated])
            for metric in evaluated[0]
            if all(metric in one for one in evaluated)
        },
        **measured,
        "training_hours": sum(one["seconds"] for one in training) / 3600,
        "samples": training[0]["samples"],
        "pictures": training[0]["pictures"],
        "seeds": len(runs),
        "manifest": training[0]["manifest"][:12],
        "commit": (runs[0][1]["git"]["commit"] or "")[:10] + ("+" if runs[0][1]["git"]["changed"] else ""),
        "device": training[0]["device"],
    }


def rows(found: dict[str, dict]) -> dict[str, dict]:
    """Return the rows of variants that have been evaluated, from the receipts of one state."""
    costs: dict[str, dict] = {}
    trained: dict[tuple[str, str], dict[str, float]] = {}
    runs: dict[str, list[tuple[dict, dict, dict]]] = {}
    for path, receipt in reversed(found.items()):  # where two reports have a variant, the first one's counts
        match path.split("/"):
            case ["tables", _, "cost.json"]:
                costs |= receipt["facts"]["cost"]["variants"]
            case ["tables", _, variant, _, seed, "transfer.json"]:
                trained.setdefault((variant, seed), {}).update(receipt["facts"]["metrics"]["metrics"])
    for path, receipt in found.items():
        match path.split("/"):
            case ["variants", variant, seed, "evaluate.json"]:
                if training := found.get(f"variants/{variant}/{seed}/pretrain.json"):
                    metrics = receipt["facts"]["metrics"]["metrics"] | trained.get((variant, seed), {})
                    runs.setdefault(variant, []).append((training, receipt, metrics))
    return {variant: row(pairs, costs.get(variant)) for variant, pairs in runs.items()}


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
