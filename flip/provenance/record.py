"""Record results with DVC, without running anything: data, variants and tables that are finished and up to date.

    python -m flip.provenance.record --scale tiny

Snakemake calls this when it ends. Until a result is recorded, `dvc exp run` and `dvc checkout --force` put the one
that was recorded before in its place, and the new one is lost.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from flip.config.faults import ParameterError
from flip.config.resolve import Project, read_project
from flip.provenance.freshness import read_receipts
from flip.provenance.layout import Layout
from flip.provenance.receipt import absent


def stages(project: Project) -> dict[str, list[str]]:
    """The receipts that each stage of dvc.yaml ends with."""
    receipts, seeds = Layout(project.scale).receipts, project.baseline.seeds
    found = {"data": [receipts.data("tokenizer"), *map(receipts.test, project.baseline.evaluate.sets)]}
    for name in project.variants:
        found[f"variant@{name}"] = [receipts.variant(name, "evaluate", seed) for seed in seeds]
    return found | {f"tables@{name}": [receipts.tables(name, "tables")] for name in project.reports}


def finished(project: Project) -> list[str]:
    """Stages whose receipts hold, and whose products are here."""
    receipts = read_receipts(Layout(project.scale).receipts.root)

    def is_finished(ends: list[str]) -> bool:
        chains = [receipts.chain(path) for path in ends]
        return all(receipts.stands(path) for path in ends) and all(
            receipt["scratch"] or not absent(receipt) for chain in chains for receipt in chain.values()
        )

    return [stage for stage, ends in stages(project).items() if is_finished(ends)]


def dvc(*words: str) -> str:
    """What DVC prints.

    Raises:
        ValueError: it cannot, for instance because another DVC is at work.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"not recorded with DVC ({done.stderr.strip()}); `dvc repro` does it later")
    return done.stdout


def record(project: Project) -> list[str]:
    """Has DVC take what is finished, and not what it recorded, into its cache and into dvc.lock; gives the stages.

    Raises:
        ValueError: as `dvc`.
    """
    changed = json.loads(dvc("status", "--json"))  # seconds, where a commit takes one for each stage
    found = [stage for stage in finished(project) if stage in changed]
    if found or "specs" in changed:
        dvc("commit", "--force", "--quiet", "specs", *found)
    return found


def main(argv=None):
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
