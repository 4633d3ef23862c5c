"""Sum the counts of all parts into one file, so that each part's pairs are scored from one.

    python -m flip.curate.total --counts curated/tiny/balance/seed-0/mentions/{0000..0001}.parquet \\
        --out curated/tiny/balance/seed-0/mentions/all.parquet
"""

import argparse

from flip.data.word_counts import write_counts
from flip.data.word_table import add_up
from flip.files import expand


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.curate.total", description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs="+", required=True, help="counts of all parts; {0000..0511} is a range")
    parser.add_argument("--out", required=True, help="their sums (parquet)")
    options = parser.parse_args(argv)
    try:
        write_counts(add_up(expand(options.counts), 1), options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
