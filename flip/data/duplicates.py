"""Find images that are there twice, or in a test set: one bucket of all fingerprints, by hash.

    python -m flip.data.duplicates --params specs/tiny/params/clip.yaml --bucket 0 \\
        --tests data/tiny/fingerprints/tests.parquet --fingerprints data/tiny/fingerprints/0*.parquet \\
        --out data/tiny/duplicates/0.parquet

Of equal images the first by key stays. Equal bytes meet in the bucket of their SHA-256. Images that look alike are
those of which two views (as it is, mirrored, three centres) differ in few bits of their perceptual hashes and have the
same colours. Such views share one of the 10 words of their hashes, or most likely do, and meet in the bucket of that
word. Memory is about 4.5 kB per image over the number of buckets; each bucket reads all hashes, 200 bytes per image.

Measured by `python -m benchmarks.duplicates --images`: percent of the copies that are found, in brackets by one hash of
the whole image without colours. 219 photographs are 33 wallpapers of Debian in tiles, smooth skies among them; 286
things on white are Tux Paint's stamps; 500 images are of the synthetic data set.

                          photographs       on white      synthetic
    crop, 3 % a side       88 (1)           97 (1)
    crop, 5 % a side       90 (0)           99 (0)         99.8 (0)
    crop, 10 % a side       0 (0)            1 (0)
    crop, 0 to 5 %, each side by itself
                           19 (1)           18 (1)
    mirrored               94 (0)           99.7 (0)       100 (0)
    border, white, 3 %     89 (0)           94 (1)
    watermark              68 (60)          99 (99)
    large text             26 (16)          91 (87)
    half the size          93 (91)          99.7 (99)
    JPEG of quality 30     87 (84)          99 (99)        100 (100)
    hue + 60 degrees: another image, of those with colours
                            7 (57)          36 (85)          1 (84)
    all others, different images
                            0                0.35            0

The one of 286 is a drawing that differs from another in a letter; what "hue" leaves has little colour in all, and
counts as grey. Of the 14,908 images of the scale `tiny`, all 453 copies are found, and 19 others (0.13 %) are
dropped. Of crops that are not centred, few are found.
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
from flip.data.fingerprints import CELLS, CENTRES, HASH_BYTES, VIEWS
from flip.files import atomic

SCHEMA = pa.schema([("key", pa.string()), ("reason", pa.string()), ("of", pa.string())])
DISTANCE = 20  # bits of 256
# Images that look alike have the same colours if the cosine of Cr and Cb over all cells is as high, whatever the
# saturation; one whose root mean square is as low, in levels of 255, is grey, and has those of any.
COSINE, GREY = 0.8, 4
NEUTRAL = 128  # Cr and Cb of a grey
WINDOW = 16 * VIEWS  # neighbours that each view is compared with, among those that share a word
FILE = 40  # bits of an ordinal that count rows within a file
VIEW, MIRRORED = 3, 1  # bits of a place that count views within an image; the view that is mirrored
PAIRS = 65_536  # whose colours are in memory
REASONS = ["in a test set", "exact duplicate", "near duplicate"]
WORD = 3  # bytes
WORDS = HASH_BYTES // WORD  # of a perceptual hash; two bytes are in none

Hashed = tuple[np.ndarray, np.ndarray]  # ordinals of images, or places of views, [n] and hashes [n, words]


def words(column: pa.ChunkedArray, kind: type) -> np.ndarray:
    """Convert a column of fixed-size binary values, none of them null, to unsigned integers [rows, words]."""
    array = column.combine_chunks()
    width = array.type.byte_width
    data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    return data.reshape(len(array), width).view(kind)


def usable(path: str | Path, file: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read ordinals, SHA-256 and perceptual hashes of the usable images of a file: int64 [n], uint64 [n, 4], uint32 [n,
    VIEWS, 8].

    An ordinal is the file's number and the row in it, so ordinals follow the order of keys.
    """
    there = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in ("sha256", "looks", "views", "captioned") if name in there])
    table = table.append_column("ordinal", pa.array((file << FILE) + np.arange(len(table))))
    table = table.filter(pc.is_valid(table["looks"]))
    if "captioned" in there:
        table = table.filter(table["captioned"])
    looks = np.concatenate([words(table[name], np.uint32) for name in ("looks", "views")], axis=1)
    return table["ordinal"].to_numpy(), words(table["sha256"], np.uint64), looks.reshape(-1, VIEWS, HASH_BYTES // 4)


def word(hashes: np.ndarray, number: int) -> np.ndarray:
    """Return a word of 24 bits of perceptual hashes uint32 [..., 8]: uint32 [...]."""
    low, middle, high = np.moveaxis(hashes.view(np.uint8)[..., WORD * number : WORD * (number + 1)], -1, 0)
    return low | middle.astype(np.uint32) << 8 | high.astype(np.uint32) << 16


def falls_in(values: np.ndarray, bucket: int, buckets: int) -> np.ndarray:
    """Tell which values belong to a bucket, bool of their shape; multiplying mixes their bits first."""
    mixed = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(32)) % np.uint64(buckets) == bucket


def gather(paths: list, bucket: int, buckets: int) -> tuple[Hashed, list[Hashed]]:
    """Collect a bucket's share of all fingerprints: (ordinals, SHA-256) and, per word of a perceptual hash, (places,
    hashes) of views. A place is an image's ordinal and the number of its view."""
    exact: list[Hashed] = []
    near: list[list[Hashed]] = [[] for _ in range(WORDS)]
    for file, path in enumerate(tqdm(paths, desc="fingerprints", unit="file", disable=None)):
        ordinals, bytes_, looks = usable(path, file)
        mine = falls_in(bytes_[:, 0], bucket, buckets)
        exact.append((ordinals[mine], bytes_[mine]))
        places = (ordinals[:, None] << VIEW) + np.arange(VIEWS)
        for number, share in enumerate(near):
            mine = falls_in(word(looks, number), bucket, buckets)
            share.append((places[mine], looks[mine]))
    return joined(exact), [joined(share) for share in near]


def joined(pairs: list[Hashed]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate pairs of ordinals and hashes."""
    ordinals, hashes = zip(*pairs, strict=True)
    return np.concatenate(ordinals), np.concatenate(hashes)


def pairs(ordinals: np.ndarray, hashes: np.ndarray, shared: np.ndarray, distance: int) -> np.ndarray:
    """Find pairs of images whose hashes differ in at most `distance` bits among those with an equal value in `shared`:
    ordinals [pairs, 2], sorted.

    Each image is compared with its `WINDOW` neighbours in the order of hashes, so equal ones always meet, and time and
    memory are linear; where many share a value, some that are only close are missed.
    """
    order = np.lexsort((ordinals, *hashes.T, shared))
    ordinals, hashes, shared = ordinals[order], hashes[order], shared[order]
    found = []
    for shift in range(1, min(WINDOW, len(order) - 1) + 1):
        near = np.flatnonzero(shared[shift:] == shared[:-shift])
        bits = np.bitwise_count(hashes[near + shift] ^ hashes[near]).sum(axis=1)
        near = near[bits <= distance]
        found.append(np.column_stack([ordinals[near], ordinals[near + shift]]))
    return np.sort(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=1)


def alike(paths: list, near: list[Hashed]) -> np.ndarray:
    """Find pairs of images of which two views look alike, in the same colours: ordinals [pairs, 2]."""
    found = [pairs(*share, word(share[1], number), DISTANCE) for number, share in enumerate(near)]
    places = np.unique(np.concatenate(found), axis=0)
    places = places[places[:, 0] >> VIEW != places[:, 1] >> VIEW]
    images, rows = np.unique(places >> VIEW, return_inverse=True)
    colours = np.frombuffer(b"".join(look_up(paths, "colours", images)), np.uint8).reshape(-1, CELLS, CELLS, 2)
    views, rows = places & ((1 << VIEW) - 1), rows.reshape(-1, 2)
    same = [
        same_colours(colours[rows[start : start + PAIRS]], views[start : start + PAIRS])
        for start in range(0, len(rows), PAIRS)
    ]
    return (places >> VIEW)[np.concatenate([np.empty(0, bool), *same])]


def centre(share: float) -> np.ndarray:
    """Return what averages cells over as many in the centre of a side, of which these cover a share: [CELLS, CELLS]."""
    edges = CELLS * ((1 - share) / 2 + share * np.linspace(0, 1, CELLS + 1)[:, None])
    covered = np.minimum(edges[1:], np.arange(1, CELLS + 1)) - np.maximum(edges[:-1], np.arange(CELLS))
    return (covered.clip(0) / np.diff(edges, axis=0)).astype(np.float32)


# Of a view: what is seen of an image's rows, and of its columns.
ROWS = np.stack([centre(share) for share in (1, 1, *CENTRES)])
COLUMNS = np.stack([each[::-1] if view == MIRRORED else each for view, each in enumerate(ROWS)])


def same_colours(colours: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Tell which pairs of images, uint8 [pairs, 2, CELLS, CELLS, 2], have the same colours where their views, [pairs,
    2], show the same; a grey image has those of any."""
    away = colours.astype(np.float32) - NEUTRAL
    seen = np.einsum("pirj,pijkc,pisk->pirsc", ROWS[views], away, COLUMNS[views], optimize=True)
    one, other = seen.reshape(len(seen), 2, CELLS * CELLS * 2).swapaxes(0, 1)
    squares = (one * one).mean(axis=1), (other * other).mean(axis=1)
    alike = (one * other).mean(axis=1) >= COSINE * np.sqrt(squares[0] * squares[1])
    return alike | (np.minimum(*squares) <= GREY**2)


def to_drop(same: np.ndarray, alike: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of pairs of ordinals, with equal bytes and alike, the ordinals to drop, ascending, and for each the
    strongest reason (an index of `REASONS`) and the first image that it is a copy of for this reason."""
    found = np.concatenate([same, alike])
    reason = np.repeat([1, 2], [len(same), len(alike)])
    reason[found[:, 0] >> FILE == 0] = 0
    order = np.lexsort((found[:, 0], reason, found[:, 1]))
    ordinals, first = np.unique(found[order, 1], return_index=True)
    train, first = ordinals >> FILE > 0, order[first]
    return ordinals[train], reason[first][train], found[first, 0][train]


def look_up(paths: list, column: str, ordinals: np.ndarray) -> Iterator:
    """Yield the values of a column at ordinals, ascending, file by file."""
    for file, path in enumerate(paths):
        mine = ordinals[ordinals >> FILE == file] - (file << FILE)
        if len(mine):
            yield from pq.read_table(path, columns=[column])[column].take(mine).to_pylist()


def names(paths: list, ordinals: np.ndarray) -> list[str]:
    """Return the names of images: keys, and of test images the set before it."""
    every, rows = np.unique(ordinals, return_inverse=True)
    tests = every[every >> FILE == 0]
    found = list(look_up(paths, "key", every))
    found[: len(tests)] = map("/".join, zip(look_up(paths[:1], "set", tests), found, strict=False))
    return [found[row] for row in rows]


def write_bucket(tests: str | Path, fingerprints: list, bucket: int, buckets: int, out: str | Path) -> int:
    """Write what is to be dropped because of a bucket (parquet: key, reason, the name of the image that it is a copy
    of; by key); return the number of keys."""
    paths = [tests, *sorted(fingerprints)]
    exact, near = gather(paths, bucket, buckets)
    ordinals, reasons, of = to_drop(pairs(*exact, exact[1][:, 0], 0), alike(paths, near))
    table = pa.table([names(paths, ordinals), np.array(REASONS)[reasons], names(paths, of)], schema=SCHEMA)
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
    print(f"{total} images to drop")


if __name__ == "__main__":
    main()
