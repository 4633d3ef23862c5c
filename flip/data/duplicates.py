"""Find images that are there twice, or in a test set: one bucket of all fingerprints, by hash.

    python -m flip.data.duplicates --params specs/tiny/params/clip.yaml --bucket 0 \\
        --tests data/tiny/fingerprints/tests.parquet --fingerprints data/tiny/fingerprints/0*.parquet \\
        --out data/tiny/duplicates/0.parquet

Of equal images the first by key stays. Equal bytes meet in the bucket of their SHA-256. Images that look alike share
one of the 8 words of their perceptual hash, or most likely do, and meet in the bucket of that word.

Measured on 1,200 images of the synthetic data set: no two were nearer than 72 bits of 256; copies at 0.8 times the size
and JPEG quality 85 were 4 bits away (median; at most 22), and 99.4 % of them were found. Hashes see no colour: images
of one plain colour count as alike, whatever the colour, and so do recoloured copies.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.files import atomic

SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string())])
DISTANCE = 20  # bits of 256
WINDOW = 16  # neighbours that each picture is compared with, among those that share a word
FILE = 40  # bits of an ordinal that count rows within a file
REASONS = ["in a test set", "exact duplicate", "near duplicate"]
LOOKS = 8  # words of a perceptual hash

Hashed = tuple[np.ndarray, np.ndarray]  # ordinals [n] and hashes [n, words] of images


def words(column: pa.ChunkedArray, kind: type) -> np.ndarray:
    """Convert a column of fixed-size binary values, none of them null, to unsigned integers [rows, words]."""
    array = column.combine_chunks()
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    return data.reshape(len(array), width).view(kind)


def usable(path: str | Path, file: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read ordinals, SHA-256 and perceptual hashes of the usable images of a file: int64 [n], uint64 [n, 4], uint32 [n,
    8].

    An ordinal is the file's number and the row in it, so ordinals follow the order of keys.
    """
    there = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in ("sha256", "looks", "captioned") if name in there])
    table = table.append_column("ordinal", pa.array((file << FILE) + np.arange(len(table))))
    table = table.filter(pc.is_valid(table["looks"]))
    if "captioned" in there:
        table = table.filter(table["captioned"])
    return table["ordinal"].to_numpy(), words(table["sha256"], np.uint64), words(table["looks"], np.uint32)


def falls_in(values: np.ndarray, bucket: int, buckets: int) -> np.ndarray:
    """Tell which values belong to a bucket, bool [values]; multiplying mixes their bits first."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(32)) % np.uint64(buckets) == bucket


def gather(paths: list, bucket: int, buckets: int) -> tuple[Hashed, list[Hashed]]:
    """Collect a bucket's share of all fingerprints: (ordinals, SHA-256) and, per word of the looks, (ordinals,
    looks)."""
    exact: list[Hashed] = []
    near: list[list[Hashed]] = [[] for _ in range(LOOKS)]
    for file, path in enumerate(tqdm(paths, desc="fingerprints", unit="file", disable=None)):
        ordinals, bytes_, looks = usable(path, file)
        mine = falls_in(bytes_[:, 0], bucket, buckets)
        exact.append((ordinals[mine], bytes_[mine]))
        for word, share in enumerate(near):
            mine = falls_in(looks[:, word], bucket, buckets)
            share.append((ordinals[mine], looks[mine]))
    return joined(exact), [joined(share) for share in near]


def joined(pairs: list[Hashed]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate pairs of ordinals and hashes."""
    ordinals, hashes = zip(*pairs, strict=True)
    return np.concatenate(ordinals), np.concatenate(hashes)


def pairs(hashed: Hashed, word: int, distance: int) -> np.ndarray:
    """Find pairs of images whose hashes share a word and differ in at most `distance` bits: ordinals [pairs, 2],
    sorted.

    Each image is compared with its `WINDOW` neighbours in the order of hashes, so equal ones always meet, and time and
    memory are linear; where many share a word, some that are only close are missed.
    """
    ordinals, hashes = hashed
    order = np.lexsort((ordinals, *hashes.T, hashes[:, word]))
    ordinals, hashes = ordinals[order], hashes[order]
    found = []
    for shift in range(1, min(WINDOW, len(order) - 1) + 1):
        near = np.flatnonzero(hashes[shift:, word] == hashes[:-shift, word])
        bits = np.bitwise_count(hashes[near + shift] ^ hashes[near]).sum(axis=1)
        near = near[bits <= distance]
        found.append(np.column_stack([ordinals[near], ordinals[near + shift]]))
    return np.sort(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=1)


def to_drop(exact: Hashed, near: list[Hashed]) -> tuple[np.ndarray, np.ndarray]:
    """Return ordinals to drop, ascending, and the strongest reason (an index of `REASONS`) of each."""
    same = pairs(exact, 0, 0)
    alike = np.concatenate([pairs(share, word, DISTANCE) for word, share in enumerate(near)])
    found = np.concatenate([same, alike])
    reason = np.repeat([1, 2], [len(same), len(alike)])
    reason[found[:, 0] >> FILE == 0] = 0
    later = found[:, 1]
    order = np.lexsort((reason, later))
    ordinals, first = np.unique(later[order], return_index=True)
    train = ordinals >> FILE > 0
    return ordinals[train], reason[order][first][train]


def keys(paths: list, ordinals: np.ndarray) -> Iterator[pa.Array]:
    """Yield the keys of ordinals, file by file."""
    for file, path in enumerate(paths):
        mine = ordinals[ordinals >> FILE == file] - (file << FILE)
        if len(mine):
            yield from pq.read_table(path, columns=["key"])["key"].take(mine).to_pylist()


def write_bucket(tests: str | Path, fingerprints: list, bucket: int, buckets: int, out: str | Path) -> int:
    """Write what is to be dropped because of a bucket (parquet: key, reason; by key); return the number of keys."""
    paths = [tests, *sorted(fingerprints)]
    ordinals, reasons = to_drop(*gather(paths, bucket, buckets))
    table = pa.table([list(keys(paths, ordinals)), np.array(REASONS)[reasons]], schema=SCHEMA)
    with atomic(out) as file:
        pq.write_table(table, file, row_group_size=65_536)
    return len(table)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--bucket", type=int, required=True, help="0 to shards.buckets - 1")
    parser.add_argument("--tests", required=True, help="fingerprints of the test sets")
    parser.add_argument("--fingerprints", nargs="+", required=True, help="fingerprints of every part")
    parser.add_argument("--out", required=True, help="keys to drop (parquet)")
    options = parser.parse_args(argv)
    try:
        buckets = load(options.params).shards.buckets
        if not 0 <= options.bucket < buckets:
            raise ValueError(f"--bucket {options.bucket}: allowed are 0 to {buckets - 1} (shards.buckets = {buckets})")
        total = write_bucket(options.tests, options.fingerprints, options.bucket, buckets, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{total} pictures to drop")


if __name__ == "__main__":
    main()
