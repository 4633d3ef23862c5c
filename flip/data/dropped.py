"""Collect from all buckets which images of a group of parts are to be dropped, and why.

    python -m flip.data.dropped --duplicates data/tiny/duplicates/{0..0}.arrow \\
        --fingerprints data/tiny/fingerprints/0000.parquet --out data/tiny/dropped/0.parquet

So each part's shards are made from one small file, and again only if it changed.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flip.data.buckets import FILE, TESTS, file_number
from flip.data.duplicates import REASONS
from flip.data.fingerprints import write
from flip.files import expand

SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("of", pa.int64())])  # of: an ordinal, see `name_of`
Tables = Iterator[pa.Table]
Found = tuple[np.ndarray, ...]  # as flip.data.duplicates.SCHEMA


def share(path: str | Path, files: list[int]) -> Found:
    """Return the images of neighbouring files that a bucket drops; they are in order, so no other is read."""
    with pa.memory_map(str(path)) as source:
        columns = [column.to_numpy() for column in pa.ipc.open_file(source).get_batch(0).columns]
        first, end = np.searchsorted(columns[0], [min(files) << FILE, (max(files) + 1) << FILE])
        return tuple(column[first:end].copy() for column in columns)


def found_in(duplicates: Sequence[str | Path], files: list[int]) -> Found:
    """Return the images of files, by number, that any bucket drops, ascending, each with its strongest reason and the
    first image that it is a copy of for this reason."""
    images, reasons, of = map(np.concatenate, zip(*(share(path, files) for path in duplicates), strict=True))
    order = np.lexsort((of, reasons, images))
    images, first = np.unique(images[order], return_index=True)
    return images, reasons[order][first], of[order][first]


def with_keys(fingerprints: Sequence[str | Path], images: np.ndarray, reasons: np.ndarray, of: np.ndarray) -> Tables:
    """Yield a table for each file of fingerprints, with keys in place of ordinals; `images`, `reasons` and `of` are
    int64 [dropped]."""
    for path in fingerprints:
        mine = images >> FILE == file_number(path)
        rows = images[mine] - (file_number(path) << FILE)
        keys = pq.read_table(path, columns=["key"])["key"].take(pa.array(rows))
        yield pa.table([keys, np.array(REASONS)[reasons[mine]], of[mine]], schema=SCHEMA)


def name_of(fingerprints: Path, image: int) -> str:
    """Return the name of an image by its ordinal: its key, or of a test image the set and the key."""
    number, row = image >> FILE, image & ((1 << FILE) - 1)
    name = "tests" if number == TESTS else f"{number - 1:04d}"
    path = next(path for path in fingerprints.glob(f"*{name}.parquet") if file_number(path) == number)
    wanted = ["set", "key"] if number == TESTS else ["key"]
    return "/".join(pq.read_table(path, columns=wanted).slice(row, 1).to_pylist()[0].values())


def write_group(duplicates: Sequence[str | Path], fingerprints: Sequence[str | Path], out: str | Path) -> None:
    """Write what is to be dropped of a group of parts (parquet: `SCHEMA`, by key)."""
    paths = sorted(fingerprints)
    found = found_in(duplicates, [file_number(path) for path in paths])
    write(with_keys(paths, *found), SCHEMA, out)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.dropped", description=__doc__.splitlines()[0])
    parser.add_argument("--duplicates", nargs="+", required=True, help="of all buckets; {0..63} is a range")
    parser.add_argument("--fingerprints", nargs="+", required=True, help="of the group's parts; {0000..0007}: a range")
    parser.add_argument("--out", required=True, help="images to drop (parquet)")
    options = parser.parse_args(argv)
    try:
        write_group(expand(options.duplicates), expand(options.fingerprints), options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
