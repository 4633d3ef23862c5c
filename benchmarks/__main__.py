"""Run parts of the benchmark, each in a process of its own; by default those that measure time and need no GPU.

python -m benchmarks
python -m benchmarks losses steps --rounds 7
python -m benchmarks gpu
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.harness import ROUNDS

PARTS = ["losses", "steps", "loading", "whole", "evaluation", "pipeline"]  # by default
ALLOWED = [*PARTS, "remote", "pixels", "regime", "duplicates", "float8", "reductions", "gpu"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts of the command line; exit with the largest exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(ALLOWED)} (default: {' '.join(PARTS)})"
    )
    parser.add_argument("--results", default="benchmarks/results.json", help="what they write (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed rounds (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(ALLOWED):
        parser.error(f"no part '{min(unknown)}'; allowed: {', '.join(ALLOWED)}")
    words = ["--results", options.results, "--rounds", str(options.rounds)] + ["--dry"] * options.dry
    codes = [subprocess.call([sys.executable, "-m", f"benchmarks.{part}", *words]) for part in options.parts or PARTS]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
