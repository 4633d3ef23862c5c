"""Sort the fingerprints of a group of parts by bucket, so that the search in a bucket reads its own share alone.

    python -m flip.data.buckets --params specs/tiny/params/clip.yaml \\
        --fingerprints data/tiny/fingerprints/0000.parquet --out data/tiny/buckets/0.arrow

An image has an entry for each value by which images meet (`KINDS`). The file (Arrow's IPC) has a batch per bucket, of
which a reader maps its own; in it, entries are by kind, then by the image's ordinal: its part's number and its row in
the part's fingerprints.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.files import atomic, expand

WIDTH = 32  # bytes of a hash
# Column of the fingerprints, type of its words, and the word whose value puts an image into a bucket.
KINDS = (("sha256", np.uint64, 0), *(("looks", np.uint32, word) for word in range(8)))
ENTRIES = pa.schema([("kind", pa.uint8()), ("image", pa.int64()), ("hash", pa.binary(WIDTH))])
FILE = 40  # bits of an ordinal that count rows within a file
TESTS = 0  # the number of the test images' file; a part's is one more than the part's


def file_number(path: str | Path) -> int:
    """Return the number of a file of fingerprints, by its name: 'tests', or a part's."""
    return TESTS if Path(path).stem == "tests" else int(Path(path).stem) + 1


def column_bytes(column: pa.ChunkedArray) -> np.ndarray:
    """Convert a column of fixed-size binary values, none of them null, to uint8 [rows, bytes]."""
    array = column.combine_chunks()
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    return data.reshape(len(array), width)


def usable(path: str | Path) -> pa.Table:
    """Read the usable images of a file of fingerprints: sha256, looks, and `image`, their ordinal."""
    there = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in ("sha256", "looks", "captioned") if name in there])
    table = table.append_column("image", pa.array((file_number(path) << FILE) + np.arange(len(table))))
    table = table.filter(pc.is_valid(table["looks"]))
    return table.filter(table["captioned"]) if "captioned" in there else table


def bucket_of(values: np.ndarray, buckets: int) -> np.ndarray:
    """Return the bucket of each value, uint16 [values]; multiplying mixes their bits first."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(32)) % np.uint64(buckets)).astype(np.uint16)


def as_entries(kind: np.ndarray, image: np.ndarray, hashes: np.ndarray) -> pa.RecordBatch:
    """Build a batch of `ENTRIES` from kinds [n], ordinals [n] and hashes uint8 [n, 32]."""
    data = pa.py_buffer(np.ascontiguousarray(hashes))
    binary = pa.FixedSizeBinaryArray.from_buffers(pa.binary(WIDTH), len(kind), [None, data])
    return pa.record_batch([pa.array(kind.astype(np.uint8)), pa.array(image), binary], schema=ENTRIES)


class Entries:
    """Hold the entries of the images of some files: 72 bytes each, and 4 bytes per kind."""

    def __init__(self, paths: Sequence[str | Path], buckets: int):
        table = pa.concat_tables(map(usable, paths))
        self.image = table["image"].to_numpy()
        self.hashes = {name: column_bytes(table[name]) for name in ("sha256", "looks")}
        places = [bucket_of(self.hashes[name].view(words)[:, word], buckets) for name, words, word in KINDS]
        self.rows = [np.argsort(place, kind="stable").astype(np.uint32) for place in places]
        self.ends = [np.bincount(place, minlength=buckets).cumsum() for place in places]

    def of(self, bucket: int) -> pa.RecordBatch:
        """Return the entries of a bucket."""
        rows = [
            rows[ends[bucket - 1] if bucket else 0 : ends[bucket]]
            for rows, ends in zip(self.rows, self.ends, strict=True)
        ]
        kind = np.repeat(np.arange(len(KINDS)), [len(some) for some in rows])
        hashes = [self.hashes[name][some] for (name, _, _), some in zip(KINDS, rows, strict=True)]
        return as_entries(kind, self.image[np.concatenate(rows)], np.concatenate(hashes))


def by_bucket(paths: Sequence[str | Path], buckets: int) -> Iterator[pa.RecordBatch]:
    """Yield the entries of files of fingerprints, one batch per bucket."""
    found = Entries(paths, buckets)
    yield from map(found.of, tqdm(range(buckets), desc="buckets", disable=None))


def read_bucket(path: str | Path, bucket: int, buckets: int) -> pa.RecordBatch:
    """Read a bucket's entries from a group's file.

    Raises:
        ValueError: it was written for another number of buckets.
    """
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        if file.num_record_batches != buckets:
            raise ValueError(
                f"{path}: {file.num_record_batches} buckets, and shards.buckets = {buckets}; make it again"
            )
        return file.get_batch(bucket)


def write_group(paths: Sequence[str | Path], buckets: int, out: str | Path) -> None:
    """Write the entries of files of fingerprints, by bucket."""
    with atomic(out) as file, pa.ipc.new_file(file, ENTRIES) as writer:
        for batch in by_bucket(paths, buckets):
            writer.write_batch(batch)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.buckets", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--fingerprints", nargs="+", required=True, help="of the group's parts; {0000..0007}: a range")
    parser.add_argument("--out", required=True, help="their entries by bucket (Arrow)")
    options = parser.parse_args(argv)
    try:
        write_group(expand(options.fingerprints), load(options.params).shards.buckets, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
