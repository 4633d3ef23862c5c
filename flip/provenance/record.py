"""Record finished results with DVC without running a job: data, variants and tables that are up to date.

    python -m flip.provenance.record --scale tiny

Snakemake calls this when it ends. Until a result is recorded, `dvc exp run` and `dvc checkout --force` replace it with
the one that was recorded before, and the new one is lost.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flip.config.faults import ParameterError
from flip.config.resolve import Project, read_project
from flip.provenance.freshness import read_receipts
from flip.provenance.layout import Layout
from flip.provenance.receipt import absent


def stages(project: Project) -> dict[str, list[str]]:
    """Return the receipts that each stage of dvc.yaml ends with, by the name of the stage."""
    receipts, seeds = Layout(project.scale).receipts, project.baseline.seeds
    found = {"data": [receipts.data("tokenizer"), *map(receipts.test, project.baseline.evaluate.sets)]}
    for name in project.variants:
        found[f"variant@{name}"] = [receipts.variant(name, "evaluate", seed) for seed in seeds]
    return found | {f"tables@{name}": [receipts.tables(name, "tables")] for name in project.reports}


def finished(project: Project) -> list[str]:
    """List the stages whose receipts are fresh and whose outputs exist."""
    receipts = read_receipts(Layout(project.scale).receipts.root)

    def is_finished(ends: list[str]) -> bool:
        chains = [receipts.chain(path) for path in ends]
        return all(receipts.chain_is_fresh(path) for path in ends) and all(
            receipt["scratch"] or not absent(receipt) for chain in chains for receipt in chain.values()
        )

    return [stage for stage, ends in stages(project).items() if is_finished(ends)]


def dvc(*words: str) -> str:
    """Run a command of DVC and return what it prints.

    Raises:
        ValueError: it failed, for instance because another DVC is at work.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"not recorded with DVC ({done.stderr.strip()}); `dvc repro` does it later")
    return done.stdout


def record(project: Project) -> list[str]:
    """Record finished stages that changed in DVC's cache and in dvc.lock; return their names.

    Raises:
        ValueError: as `dvc`.
    """
    changed = json.loads(dvc("status", "--json"))  # seconds, where a commit takes one for each stage
    found = [stage for stage in finished(project) if stage in changed]
    if found or "specs" in changed:
        dvc("commit", "--force", "--quiet", "specs", *found)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Record the finished results of a scale, by the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flip.provenance.record", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    options = parser.parse_args(argv)
    if not Path(".git").exists():
        return  # DVC keeps its records in Git
    try:
        found = record(read_project(scale=options.scale))
    except (ParameterError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    print(f"Recorded with DVC: {', '.join(found) or 'nothing new'}.")


if __name__ == "__main__":
    main()
