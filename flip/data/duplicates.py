"""Find images that are there twice, or in a test set: one bucket of all fingerprints, by hash.

    python -m flip.data.duplicates --params specs/tiny/params/clip.yaml --bucket 0 \\
        --tests data/tiny/fingerprints/tests.parquet --groups data/tiny/buckets/{0..1}.arrow \\
        --out data/tiny/duplicates/0.arrow

Of equal images the first by key stays: ordinals (flip.data.buckets) follow the order of keys. Equal bytes meet in the
bucket of their SHA-256. Images that look alike share one of the 8 words of their perceptual hash, or most likely do,
and meet in the bucket of that word.

Measured on 1,200 images of the synthetic data set: no two were nearer than 72 bits of 256; copies at 0.8 times the size
and JPEG quality 85 were 4 bits away (median; at most 22), and 99.4 % of them were found. Hashes see no colour: images
of one plain colour count as alike, whatever the colour, and so do recoloured copies.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from flip.config.frozen import load
from flip.data.buckets import FILE, KINDS, Entries, column_bytes, read_bucket
from flip.files import atomic, expand

SCHEMA = pa.schema([("image", pa.int64()), ("reason", pa.uint8())])  # an ordinal, an index of REASONS
DISTANCE = 20  # bits of 256
WINDOW = 16  # neighbours that each image is compared with, among those that share a word
REASONS = ["in a test set", "exact duplicate", "near duplicate"]

Hashed = tuple[np.ndarray, np.ndarray]  # ordinals [n] and hashes [n, words] of images


def gather(tests: str | Path, groups: Sequence[str | Path], bucket: int, buckets: int) -> tuple[Hashed, list[Hashed]]:
    """Collect a bucket's share of all fingerprints: (ordinals, SHA-256) and, per word of the looks, (ordinals,
    looks)."""
    own = Entries([tests], buckets).of(bucket)
    files = tqdm(groups, desc="fingerprints", unit="file", disable=None)
    table = pa.Table.from_batches([own, *(read_bucket(path, bucket, buckets) for path in files)])
    kind, ordinals, hashes = table["kind"].to_numpy(), table["image"].to_numpy(), column_bytes(table["hash"])
    shares = []
    for number, (_, words, _) in enumerate(KINDS):
        mine = kind == number
        shares.append((ordinals[mine], hashes[mine].view(words)))
    return shares[0], shares[1:]


def pairs(ordinals: np.ndarray, hashes: np.ndarray, word: int, distance: int) -> np.ndarray:
    """Find pairs of images whose hashes share a word and differ in at most `distance` bits: ordinals [pairs, 2],
    sorted.

    Each image is compared with its `WINDOW` neighbours in the order of hashes, so equal ones always meet, and time and
    memory are linear; where many share a word, some that are only close are missed.
    """
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
    same = pairs(*exact, 0, 0)
    alike = np.concatenate([pairs(*share, word, DISTANCE) for word, share in enumerate(near)])
    found = np.concatenate([same, alike])
    reason = np.repeat([1, 2], [len(same), len(alike)])
    reason[found[:, 0] >> FILE == 0] = 0
    later = found[:, 1]
    order = np.lexsort((reason, later))
    ordinals, first = np.unique(later[order], return_index=True)
    train = ordinals >> FILE > 0
    return ordinals[train], reason[order][first][train]


def write_bucket(tests: str | Path, groups: Sequence[str | Path], bucket: int, buckets: int, out: str | Path) -> int:
    """Write what is to be dropped because of a bucket (`SCHEMA`, one batch, by image); return the number."""
    ordinals, reasons = to_drop(*gather(tests, groups, bucket, buckets))
    batch = pa.record_batch([pa.array(ordinals), pa.array(reasons.astype(np.uint8))], schema=SCHEMA)
    with atomic(out) as file, pa.ipc.new_file(file, SCHEMA) as writer:
        writer.write_batch(batch)
    return len(batch)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--bucket", type=int, required=True, help="0 to shards.buckets - 1")
    parser.add_argument("--tests", required=True, help="fingerprints of the test sets")
    parser.add_argument("--groups", nargs="+", required=True, help="entries of all groups; {0..63} is a range")
    parser.add_argument("--out", required=True, help="images to drop (Arrow)")
    options = parser.parse_args(argv)
    try:
        buckets = load(options.params).shards.buckets
        if not 0 <= options.bucket < buckets:
            raise ValueError(f"--bucket {options.bucket}: allowed are 0 to {buckets - 1} (shards.buckets = {buckets})")
        total = write_bucket(options.tests, expand(options.groups), options.bucket, buckets, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{total} images to drop")


if __name__ == "__main__":
    main()
