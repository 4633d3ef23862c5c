"""Write one small file for many results: it changes if and only if one of them does.

    python -m flip.provenance.collect --receipts receipts/tiny/data/duplicates/{0..1}.json \\
        --out data/tiny/duplicates/all.json

Where each of many jobs depends on all of many others, it depends on this file in their place, so that a workflow's
links grow with the jobs and not with their product.
"""

import argparse
from collections.abc import Sequence

from flip.files import expand, write_json
from flip.provenance.receipt import read

COLLECTING = "flip.provenance.collect"


def collect(receipts: Sequence[str]) -> dict[str, str]:
    """Return the ids of the results of receipts, by the receipts' paths.

    Raises:
        ValueError: as `read`.
    """
    return {path: read(path)["id"] for path in sorted(receipts)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog=f"python -m {COLLECTING}", description=__doc__.splitlines()[0])
    parser.add_argument("--receipts", nargs="+", required=True, help="receipts; {0..63} is a range")
    parser.add_argument("--out", required=True, help="ids of their results (JSON)")
    options = parser.parse_args(argv)
    try:
        write_json(options.out, collect(expand(options.receipts)))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
