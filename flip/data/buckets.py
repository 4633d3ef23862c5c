"""Sort the fingerprints of a group of parts by bucket, so that the search in a bucket reads its own share alone.

    python -m flip.data.buckets --params specs/tiny/params/clip.yaml \\
        --fingerprints data/tiny/fingerprints/0000.parquet --out data/tiny/buckets/0.arrow

An image has an entry for each value by which images meet: the first word of its SHA-256, and each word of the hash of
each of its views. The file (Arrow's IPC) has a batch per bucket, of which a reader reads its own; in it, entries are by
kind (0: SHA-256, otherwise the number of the word, from 1 on), then by place. Beside it lie the images' colours
(.npy), of which the search looks up those of its candidates.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.data.fingerprints import HASH_BYTES, VIEWS
from flip.files import atomic, expand

# An image's ordinal is its file's number and its row there, so ordinals follow the order of keys; `place` is that, or
# for a view the ordinal and the view's number.
ENTRIES = pa.schema([("kind", pa.uint8()), ("place", pa.int64()), ("hash", pa.binary(HASH_BYTES))])
FILE = 40  # bits of an ordinal that count rows within a file
VIEW = 3  # bits of a place that count views within an image
TESTS = 0  # the number of the test images' file; a part's is one more than the part's
WORD = 3  # bytes
WORDS = HASH_BYTES // WORD  # of a perceptual hash; two bytes are in none
# Of 41 bytes an entry, zstd leaves 31 to 36: places ascend, while hashes are nearly random.
PACKED = pa.ipc.IpcWriteOptions(compression="zstd")
STARTS = b"starts"  # in a file's metadata: the row of the colours that each file of fingerprints begins with


def file_number(path: str | Path) -> int:
    """Return the number of a file of fingerprints, by its name: 'tests', or a part's."""
    return TESTS if Path(path).stem == "tests" else int(Path(path).stem) + 1


def column_bytes(column: pa.ChunkedArray) -> np.ndarray:
    """Convert a column of fixed-size binary values to uint8 [rows, bytes]; what is null has any."""
    array = column.combine_chunks()
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    return data.reshape(len(array), width)


def colours_of(path: str | Path) -> np.ndarray:
    """Read the colours of all images of a file of fingerprints, uint8 [rows, cells * cells * 2]."""
    return column_bytes(pq.read_table(path, columns=["colours"])["colours"])


def usable(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read ordinals, SHA-256 and perceptual hashes of the usable images of a file of fingerprints: int64 [n], uint8 [n,
    32], uint8 [n, VIEWS, 32]."""
    there = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in ("sha256", "looks", "views", "captioned") if name in there])
    table = table.append_column("image", pa.array((file_number(path) << FILE) + np.arange(len(table))))
    table = table.filter(pc.is_valid(table["looks"]))
    if "captioned" in there:
        table = table.filter(table["captioned"])
    views = np.concatenate([column_bytes(table[name]) for name in ("looks", "views")], axis=1)
    return table["image"].to_numpy(), column_bytes(table["sha256"]), views.reshape(-1, VIEWS, HASH_BYTES)


def word(hashes: np.ndarray, number: int) -> np.ndarray:
    """Return a word of 24 bits of perceptual hashes uint32 [..., 8] or uint8 [..., 32]: uint32 [...]."""
    low, middle, high = np.moveaxis(hashes.view(np.uint8)[..., WORD * number : WORD * (number + 1)], -1, 0)
    return low | middle.astype(np.uint32) << 8 | high.astype(np.uint32) << 16


def bucket_of(values: np.ndarray, buckets: int) -> np.ndarray:
    """Return the bucket of each value, uint16 [values]; multiplying mixes their bits first."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(32)) % np.uint64(buckets)).astype(np.uint16)


class Entries:
    """Hold the entries of the images of some files: 200 bytes an image, and 4 bytes an entry."""

    def __init__(self, paths: Sequence[str | Path], buckets: int):
        image, exact, views = map(np.concatenate, zip(*map(usable, paths), strict=True))
        places = ((image[:, None] << VIEW) + np.arange(VIEWS)).ravel()
        views = views.reshape(-1, HASH_BYTES)
        self.sides = [(image, exact), *[(places, views)] * WORDS]  # of each kind
        values = [np.ascontiguousarray(exact).view(np.uint64)[:, 0], *(word(views, number) for number in range(WORDS))]
        own = [bucket_of(one, buckets) for one in values]
        self.rows = [np.argsort(place, kind="stable").astype(np.uint32) for place in own]
        self.ends = [np.bincount(place, minlength=buckets).cumsum() for place in own]

    def of(self, bucket: int) -> pa.RecordBatch:
        """Return the entries of a bucket."""
        starts = [ends[bucket - 1] if bucket else 0 for ends in self.ends]
        rows = [rows[start : ends[bucket]] for rows, start, ends in zip(self.rows, starts, self.ends, strict=True)]
        kind = np.repeat(np.arange(len(rows), dtype=np.uint8), [len(some) for some in rows])
        place = np.concatenate([places[some] for (places, _), some in zip(self.sides, rows, strict=True)])
        hashes = np.concatenate([side[some] for (_, side), some in zip(self.sides, rows, strict=True)])
        binary = pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(kind), [None, pa.py_buffer(hashes)])
        return pa.record_batch([pa.array(kind), pa.array(place), binary], schema=ENTRIES)


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


def look_up(group: str | Path, images: np.ndarray, colours: np.ndarray) -> None:
    """Write the colours of images, by their ordinals, ascending, into uint8 [images, cells * cells * 2], of those that
    the group has."""
    starts = {int(file) << FILE: start for file, start in starts_of(str(group)).items()}
    ranges = {place: np.searchsorted(images, [place, place + (1 << FILE)]) for place in starts}
    if not any(first < end for first, end in ranges.values()):
        return
    known = np.load(Path(group).with_suffix(".npy"), mmap_mode="r")
    for place, (first, end) in ranges.items():
        colours[first:end] = known[starts[place] + images[first:end] - place]


@cache
def starts_of(group: str) -> dict[str, int]:
    """Return where the images of each file begin among those of a group."""
    with pa.memory_map(group) as source:
        return json.loads(pa.ipc.open_file(source).schema.metadata[STARTS])


def write_group(paths: Sequence[str | Path], buckets: int, out: str | Path) -> None:
    """Write the entries of files of fingerprints, by bucket, and beside them the colours of all their images."""
    colours = [colours_of(path) for path in paths]
    starts = np.cumsum([0, *map(len, colours)]).tolist()
    metadata = {STARTS: json.dumps(dict(zip(map(file_number, paths), starts, strict=False)))}
    with atomic(Path(out).with_suffix(".npy")) as file:
        np.save(file, np.concatenate(colours))
    del colours
    schema = ENTRIES.with_metadata(metadata)
    with atomic(out) as file, pa.ipc.new_file(file, schema, options=PACKED) as writer:
        for batch in by_bucket(paths, buckets):
            writer.write_batch(batch)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.buckets", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--fingerprints", nargs="+", required=True, help="of the group's parts; {0000..0007}: a range")
    parser.add_argument("--out", required=True, help="their entries by bucket (Arrow); the colours go beside it")
    options = parser.parse_args(argv)
    try:
        write_group(expand(options.fingerprints), load(options.params).shards.buckets, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
