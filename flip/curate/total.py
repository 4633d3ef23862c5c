"""Sum the counts of all parts into one file, of the entries that `balance` cuts: others are kept wherever they are.

    python -m flip.curate.total --params specs/tiny/params/balance.yaml --data data/tiny \\
        --counts curated/tiny/balance/seed-0/mentions/{0000..0001}.parquet \\
        --out curated/tiny/balance/seed-0/mentions/all.parquet
"""

import argparse
from pathlib import Path

from flip.curate import read_curation
from flip.curate.policies import captions_of_an_entry
from flip.data.word_table import write_sums
from flip.files import expand, read_json


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.curate.total", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--counts", nargs="+", required=True, help="counts of all parts; {0000..0511} is a range")
    parser.add_argument("--out", required=True, help="their sums (parquet)")
    options = parser.parse_args(argv)
    try:
        pairs = read_json(options.data / "manifest.json")["samples"]
        cap = captions_of_an_entry(read_curation(options.params), pairs)
        write_sums(expand(options.counts), int(cap) + 1, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
