"""Find images that are there twice, or in a test set: one bucket of all fingerprints, by hash.

    python -m flip.data.duplicates --params specs/tiny/params/clip.yaml --bucket 0 \\
        --tests data/tiny/fingerprints/tests.parquet --groups data/tiny/buckets/{0..1}.arrow \\
        --out data/tiny/duplicates/0.arrow

Of equal images the first by key stays. Equal bytes meet in the bucket of their SHA-256. Images that look alike are
those of which two views (as it is, mirrored, three centres) differ in few bits of their perceptual hashes and have the
same colours. Such views share one of the 10 words of their hashes, or most likely do, and meet in the bucket of that
word. Memory is about 4.5 kB per image over the number of buckets; each bucket reads its share of 1.7 kB per image, and
the colours of its candidates.

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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from flip.config.frozen import load
from flip.data.buckets import (
    FILE,
    TESTS,
    VIEW,
    WORDS,
    Entries,
    colours_of,
    column_bytes,
    look_up,
    read_bucket,
    word,
)
from flip.data.fingerprints import CELLS, CENTRES, VIEWS
from flip.files import atomic, expand

# Ordinals (flip.data.buckets) of an image and of the one that it is a copy of, and an index of REASONS.
SCHEMA = pa.schema([("image", pa.int64()), ("reason", pa.uint8()), ("of", pa.int64())])
DISTANCE = 20  # bits of 256
# Images that look alike have the same colours if the cosine of Cr and Cb over all cells is as high, whatever the
# saturation; one whose root mean square is as low, in levels of 255, is grey, and has those of any.
COSINE, GREY = 0.8, 4
NEUTRAL = 128  # Cr and Cb of a grey
WINDOW = 16 * VIEWS  # neighbours that each view is compared with, among those that share a word
MIRRORED = 1  # the view that is
PAIRS = 65_536  # whose colours are in memory
REASONS = ["in a test set", "exact duplicate", "near duplicate"]

Hashed = tuple[np.ndarray, np.ndarray]  # ordinals of images, or places of views, [n] and hashes [n, words]


def gather(tests: str | Path, groups: Sequence[str | Path], bucket: int, buckets: int) -> tuple[Hashed, list[Hashed]]:
    """Collect a bucket's share of all fingerprints: (ordinals, SHA-256) and, per word of a perceptual hash, (places,
    hashes) of views."""
    files = tqdm(groups, desc="fingerprints", unit="file", disable=None)
    batches = [Entries([tests], buckets).of(bucket), *(read_bucket(path, bucket, buckets) for path in files)]
    table = pa.Table.from_batches([batch.replace_schema_metadata() for batch in batches])
    kind, places, hashes = table["kind"].to_numpy(), table["place"].to_numpy(), column_bytes(table["hash"])
    exact, *near = [(places[mine], hashes[mine]) for mine in (kind == number for number in range(WORDS + 1))]
    return (exact[0], exact[1].view(np.uint64)), [(place, one.view(np.uint32)) for place, one in near]


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


def alike(tests: str | Path, groups: Sequence[str | Path], near: list[Hashed]) -> np.ndarray:
    """Find pairs of images of which two views look alike, in the same colours: ordinals [pairs, 2]."""
    found = [pairs(*share, word(share[1], number), DISTANCE) for number, share in enumerate(near)]
    places = np.unique(np.concatenate(found), axis=0)
    places = places[places[:, 0] >> VIEW != places[:, 1] >> VIEW]
    images, rows = np.unique(places >> VIEW, return_inverse=True)
    colours = colours_at(tests, groups, images)
    views, rows = places & ((1 << VIEW) - 1), rows.reshape(-1, 2)
    same = [
        same_colours(colours[rows[start : start + PAIRS]], views[start : start + PAIRS])
        for start in range(0, len(rows), PAIRS)
    ]
    return (places >> VIEW)[np.concatenate([np.empty(0, bool), *same])]


def colours_at(tests: str | Path, groups: Sequence[str | Path], images: np.ndarray) -> np.ndarray:
    """Return the colours of images by their ordinals, ascending: uint8 [images, cells, cells, 2]."""
    found = np.empty((len(images), CELLS * CELLS * 2), np.uint8)
    own = images[: np.searchsorted(images, (TESTS + 1) << FILE)]
    found[: len(own)] = colours_of(tests)[own]
    for group in groups:
        look_up(group, images, found)
    return found.reshape(-1, CELLS, CELLS, 2)


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
    """Return of pairs of ordinals [pairs, 2], with equal bytes and alike, the ordinals to drop, ascending, and for each
    the strongest reason (an index of `REASONS`) and the first image that it is a copy of for this reason, each
    [dropped]."""
    found = np.concatenate([same, alike])
    reason = np.repeat([1, 2], [len(same), len(alike)])
    reason[found[:, 0] >> FILE == 0] = 0
    order = np.lexsort((found[:, 0], reason, found[:, 1]))
    ordinals, first = np.unique(found[order, 1], return_index=True)
    train, first = ordinals >> FILE > 0, order[first]
    return ordinals[train], reason[first][train], found[first, 0][train]


def write_bucket(tests: str | Path, groups: Sequence[str | Path], bucket: int, buckets: int, out: str | Path) -> int:
    """Write what is to be dropped because of a bucket (`SCHEMA`, one batch, by image); return the number."""
    exact, near = gather(tests, groups, bucket, buckets)
    ordinals, reasons, of = to_drop(pairs(*exact, exact[1][:, 0], 0), alike(tests, groups, near))
    batch = pa.record_batch([pa.array(one) for one in (ordinals, reasons.astype(np.uint8), of)], schema=SCHEMA)
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
