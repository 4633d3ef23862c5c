"""Count the words, or the entries, of a part's captions: what pairs are then chosen by.

    python -m flip.curate.count --params specs/tiny/params/balance.yaml \\
        --samples data/tiny/shards/0000/samples.parquet --out curated/tiny/balance/seed-0/words/0000.parquet

For `frequency`, as often as captions have them; for `balance`, in how many captions they are.
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flip.config.sections.curation import Curation
from flip.curate import read_curation
from flip.curate.captions import first_captions, mentioned
from flip.files import atomic

SCHEMA = pa.schema([("word", pa.string()), ("count", pa.int64())])


def write_counts(counts: dict[str, int], out: str | Path) -> None:
    """Write counts (parquet: `SCHEMA`), by word."""
    names = sorted(counts)
    with atomic(out) as file:
        pq.write_table(pa.table([names, [counts[name] for name in names]], schema=SCHEMA), file)


def read_counts(paths: Iterable[str | Path]) -> Counter[str]:
    """Sum the counts of files."""
    found: Counter[str] = Counter()
    for path in paths:
        table = pq.read_table(path)
        found.update(dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)))
    return found


def count(samples: str | Path, curation: Curation) -> Counter[str]:
    """Count what a part's captions mention."""
    of, found = mentioned(curation), Counter[str]()
    for _, caption in first_captions(samples):
        found.update(of(caption))
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.curate.count", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--samples", required=True, help="list of the part's samples (parquet)")
    parser.add_argument("--out", required=True, help="counts by word (parquet)")
    options = parser.parse_args(argv)
    try:
        write_counts(count(options.samples, read_curation(options.params)), options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
