"""Count the words of a part's training captions.

    python -m flip.data.word_counts --list data/tiny/shards/0000/samples.parquet --out data/tiny/words/0000.parquet

A word is letters and digits in a row, or another character by itself, in lower case; so the counts belong to the
captions, whatever tokenizer reads them (flip.data.word_scores).
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

import pyarrow as pa
import pyarrow.parquet as pq

from flip.data.pairs import BATCH
from flip.files import atomic

SCHEMA = pa.schema([("word", pa.string()), ("count", pa.int64())])
WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


def split_words(caption: str) -> list[str]:
    """Split a caption into its words, in order."""
    return WORD.findall(normalize("NFC", caption).lower())


def count_words(captions: Iterable[str | None]) -> Counter[str]:
    """Count the words of captions."""
    return Counter(word for caption in captions for word in split_words(caption or ""))


def write_counts(counts: Counter[str], path: str | Path) -> None:
    """Write counts (parquet: `SCHEMA`), in the order of the words, by which files are added up."""
    columns = list(zip(*sorted(counts.items()), strict=True)) or [(), ()]
    with atomic(path) as file:
        pq.write_table(pa.table([pa.array(column) for column in columns], schema=SCHEMA), file)


def count_list(path: str | Path) -> Counter[str]:
    """Count the words of the captions in a part's list (flip.data.pairs), read one batch at a time."""
    found: Counter[str] = Counter()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=["caption"]):
            found.update(count_words(batch["caption"].to_pylist()))
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.word_counts", description=__doc__.splitlines()[0])
    parser.add_argument("--list", required=True, help="samples.parquet beside the part's shards")
    parser.add_argument("--out", required=True, help="counts (parquet)")
    options = parser.parse_args(argv)
    try:
        write_counts(count_list(options.list), options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
