"""Add up the words that all parts have counted, and keep those that are there often enough.

    python -m flip.data.word_table --params specs/tiny/params/clip.yaml \\
        --counts data/tiny/words/{0000..0001}.parquet --out data/tiny/words.parquet
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from flip.config.frozen import load
from flip.data.word_counts import write_counts
from flip.files import expand


def words_path(data: str | Path) -> Path:
    """Return the file of words in a folder of data."""
    return Path(data) / "words.parquet"


def read_counts(path: str | Path) -> Counter[str]:
    """Read the counts of words.

    Raises:
        ValueError: there is no such file.
    """
    if not Path(path).exists():
        raise ValueError(f"{path}: missing; `snakemake variant --config variant=NAME` makes it")
    table = pq.read_table(path)
    return Counter(dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)))


def add_up(paths: Iterable[str], least: int) -> Counter[str]:
    """Add up the counts of files, and keep the words that are there at least `least` times."""
    total: Counter[str] = Counter()
    for path in paths:
        total.update(read_counts(path))
    return Counter({word: count for word, count in total.items() if count >= least})


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.word_table", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters")
    parser.add_argument("--counts", nargs="+", required=True, help="of all parts; {0000..0007} is a range")
    parser.add_argument("--out", required=True, help="words and counts (parquet)")
    options = parser.parse_args(argv)
    try:
        write_counts(add_up(expand(options.counts), load(options.params).tokenizer.least_count), options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
