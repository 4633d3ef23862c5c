"""The parts of the benchmark that measure time and need no GPU, or those that are named, each in a process of its own.

python -m benchmarks
python -m benchmarks losses steps --rounds 7
python -m benchmarks gpu
"""

import argparse
import subprocess
import sys

from benchmarks.harness import ROUNDS

PARTS = ["losses", "steps", "loading", "evaluation", "pipeline"]  # by default
ALLOWED = [*PARTS, "pixels", "float8", "gpu"]


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(ALLOWED)} (default: {' '.join(PARTS)})"
    )
    parser.add_argument("--results", default="benchmarks/results.json", help="what they write (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed ones; medians count (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="sizes that show nothing but that they run")
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(ALLOWED):
        parser.error(f"no part '{min(unknown)}'; allowed: {', '.join(ALLOWED)}")
    told = ["--results", options.results, "--rounds", str(options.rounds)] + ["--dry"] * options.dry
    codes = [subprocess.call([sys.executable, "-m", f"benchmarks.{part}", *told]) for part in options.parts or PARTS]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
