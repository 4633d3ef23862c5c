"""Add up the words that all parts have counted, and keep those that are there often enough.

Parts' files are in the order of the words, so they are read side by side: memory holds a few rows of each, whatever the
number of words.

    python -m flip.data.word_table --params specs/tiny/params/clip.yaml \\
        --counts data/tiny/words/{0000..0001}.parquet --out data/tiny/words.parquet
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flip.config.frozen import load
from flip.data.word_counts import SCHEMA
from flip.files import atomic, expand

ROWS = 1 << 20  # of all files together that are held at a time


def words_path(data: str | Path) -> Path:
    """Return the file of words in a folder of data."""
    return Path(data) / "words.parquet"


def read_counts(path: str | Path) -> Counter[str]:
    """Read the counts of words, the most frequent first, and of equal ones by the word.

    Raises:
        ValueError: there is no such file.
    """
    if not Path(path).exists():
        raise ValueError(f"{path}: missing; `snakemake variant --config variant=NAME` makes it")
    table = pq.read_table(path).sort_by([("count", "descending"), ("word", "ascending")])
    return Counter(dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)))


class SortedCounts:
    """Read a file of counts from its first word on: `held` has `rows` of it or more, until its end is near."""

    def __init__(self, file: pq.ParquetFile, rows: int):
        self.batches, self.rows, self.held = file.iter_batches(rows), rows, SCHEMA.empty_table()
        self.more()

    def more(self) -> None:
        """Hold as many rows as there have to be; none stay at the end."""
        while len(self.held) < self.rows and (batch := next(self.batches, None)):
            self.held = pa.concat_tables([self.held, pa.Table.from_batches([batch], SCHEMA)])

    @property
    def last(self) -> str:
        """Return the last word that is held."""
        return self.held["word"][-1].as_py()

    def until(self, word: str) -> pa.Table:
        """Take the rows up to a word."""
        count = pc.sum(pc.less_equal(self.held["word"], word)).as_py() or 0
        found, self.held = self.held.slice(0, count), self.held.slice(count)
        self.more()
        return found


def summed(paths: Sequence[str], rows: int = ROWS) -> Iterator[pa.Table]:
    """Yield tables (`SCHEMA`) of the words of all files with their sums, in the order of the words; about so many rows
    are held at a time."""
    with ExitStack() as stack:
        files = [stack.enter_context(pq.ParquetFile(path)) for path in paths]
        parts = [SortedCounts(file, -(-rows // len(files))) for file in files]
        while parts := [one for one in parts if len(one.held)]:
            word = min(one.last for one in parts)  # no file has more of the words up to this one
            some = pa.concat_tables([one.until(word) for one in parts])
            total = some.group_by("word").aggregate([("count", "sum")]).sort_by("word")
            yield total.select(["word", "count_sum"]).rename_columns(SCHEMA.names).cast(SCHEMA)


def write_sums(paths: Sequence[str], least: int, out: str | Path) -> None:
    """Write the sums of files of counts, of the words that are there at least `least` times."""
    with atomic(out) as file, pq.ParquetWriter(file, SCHEMA) as writer:
        for table in summed(paths):
            writer.write_table(table.filter(pc.field("count") >= least))


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.word_table", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters")
    parser.add_argument("--counts", nargs="+", required=True, help="of all parts; {0000..0007} is a range")
    parser.add_argument("--out", required=True, help="words and counts (parquet)")
    options = parser.parse_args(argv)
    try:
        write_sums(expand(options.counts), load(options.params).tokenizer.least_count, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
