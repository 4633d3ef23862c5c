"""Record finished results without running a job: with DVC, and as rows of `dvc exp show`.

    python -m flip.report.record --scale tiny

Snakemake calls this when it ends, and `dvc repro` after it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flip.config.faults import ParameterError
from flip.config.resolve import read_project
from flip.provenance.dvc import record
from flip.report import experiments


def require_repository() -> None:
    """Check that this folder is the top of a Git repository, in which DVC keeps its records.

    Raises:
        ValueError: it is not.
    """
    if not Path(".git").exists():
        raise ValueError(
            f"not recorded with DVC: {Path.cwd()} is not the top of a Git repository; `git init && git add -A && git "
            "commit -m Start` makes it one"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Record the finished results of a scale, by the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flip.report.record", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    parser.add_argument("--rows", action="store_true", help="write the rows alone, as Git's hook after a commit does")
    options = parser.parse_args(argv)
    try:
        require_repository()
        project = read_project(scale=options.scale)
        found = [] if options.rows else record(project)
        if experiments.is_experiment():
            experiments.leave(project)
        experiments.show(project, "HEAD" if experiments.is_experiment() else experiments.HERE)
    except (ParameterError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    print(f"Recorded with DVC: {', '.join(found) or 'nothing new'}.")


if __name__ == "__main__":
    main()
