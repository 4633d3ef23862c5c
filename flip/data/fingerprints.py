"""Compute fingerprints of images, to find duplicates: hashes of each one's bytes, of its looks, and its colours.

    python -m flip.data.fingerprints --params specs/tiny/params/clip.yaml --download data/tiny/download/0000.json \\
        --out data/tiny/fingerprints/0000.parquet
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image
from tqdm import tqdm

from flip.config.frozen import load
from flip.data.arrived import Arrived, ArrivedTar, arrived
from flip.data.tar_cache import Hold, TarCache, local, not_fetched
from flip.files import atomic
from flip.formats.images import decode, is_plain
from flip.formats.words import has_words

Item = TypeVar("Item")
Hashes = dict[str, bytes | None]  # of what an image displays, by column
Decode = Callable[[bytes], tuple[np.ndarray, np.ndarray]]

CHUNK, BYTES = 512, 1 << 26  # images in memory, as they are stored
SIDE, LOW = 32, 16  # images are compared at 32 x 32 pixels, by their 16 x 16 lowest frequencies
# Centres of an image, by their share of each side. Between two of 0, 1, 4 and 6 there is each number of steps from 0 to
# 6, so that of an image and its crop, of up to 7 % a side, two views differ by at most half a step: 0.6 % a side.
STEP = 0.975
CENTRES = [STEP**steps for steps in (1, 4, 6)]
VIEWS = 2 + len(CENTRES)  # the image as it is, mirrored, and its centres
CELLS = 8  # colours are compared in 8 x 8 cells
HASH_BYTES = LOW * LOW // 8  # of a perceptual hash
# `looks` is the hash of the image as it is, `views` has the others; no `looks` means that it cannot be decoded.
LOOKS = [
    ("looks", pa.binary(HASH_BYTES)),
    ("views", pa.binary((VIEWS - 1) * HASH_BYTES)),
    ("colours", pa.binary(CELLS * CELLS * 2)),
]
HASHES = [("sha256", pa.binary(32)), *LOOKS]
UNREADABLE: Hashes = dict.fromkeys(name for name, _ in LOOKS)
PART = pa.schema([("key", pa.string()), ("url", pa.string()), *HASHES, ("captioned", pa.bool_())])

_frequency, _position = np.ogrid[:LOW, :SIDE]
COSINES = np.cos(np.pi * _frequency * (2 * _position + 1) / (2 * SIDE)).astype(np.float32)


def perceptual_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Compute the perceptual hashes, uint8 [images, 32] (256 bits), of grey thumbnails uint8 [images, 32, 32].

    A bit per low frequency of the cosine transform, set if it is above the image's median: resizing and recompression
    change few of them, see `duplicates.DISTANCE`.
    """
    frequencies = (COSINES @ thumbnails.astype(np.float32) @ COSINES.T).reshape(len(thumbnails), LOW * LOW)
    return np.packbits(frequencies > np.median(frequencies, axis=1, keepdims=True), axis=1)


def decode_both(encoded: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image as it is displayed: in grey, uint8 [height, width], and in colour, uint8 [some height, some
    width, 3], of a JPEG as small as libjpeg makes it, in a fraction of the time.

    Raises:
        ValueError: it is broken or cut short.
    """
    if is_plain(encoded) and simplejpeg.is_jpeg(encoded):
        grey = simplejpeg.decode_jpeg(encoded, colorspace="GRAY")[:, :, 0]
        return grey, simplejpeg.decode_jpeg(encoded, "RGB", True, True, CELLS, CELLS)
    return in_both(decode(encoded))


def in_both(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in grey, uint8 [height, width], and in colour, uint8 [height, width, 3]."""
    return np.asarray(image.convert("L")), np.asarray(image.convert("RGB"))


def thumbnails(grey: np.ndarray) -> np.ndarray:
    """Resize the views of an image uint8 [height, width] to uint8 [VIEWS, 32, 32]: as it is, mirrored, its centres."""
    height, width = grey.shape
    margins = [(round(height * (1 - share) / 2), round(width * (1 - share) / 2)) for share in CENTRES]
    whole = resized(grey)
    if min(height, width) < 2 * SIDE:  # pixels of a centre may be larger than those of 32 x 32
        centres = [resized(grey[y : height - y, x : width - x]) for y, x in margins]
    else:
        sums = cv2.integral(grey)
        centres = [means(sums, y, x) for y, x in margins]
    return np.stack([whole, whole[:, ::-1], *centres])


def resized(grey: np.ndarray) -> np.ndarray:
    """Resize an image to uint8 [32, 32], each pixel a mean over an area."""
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def means(sums: np.ndarray, y: int, x: int) -> np.ndarray:
    """Do what `resized` does for an image within margins of y rows and x columns, by the integral image [height + 1,
    width + 1] of all: of several such, in a fraction of the time."""
    (top, down), (left, right) = (edges(margin, size - 1) for margin, size in zip((y, x), sums.shape, strict=True))
    rows = sums[top] + (sums[top + 1] - sums[top]) * down[:, None]
    corners = rows[:, left] + (rows[:, left + 1] - rows[:, left]) * right
    totals = np.diff(np.diff(corners, axis=0), axis=1)
    return np.rint(totals * (SIDE / (sums.shape[0] - 1 - 2 * y) * SIDE / (sums.shape[1] - 1 - 2 * x))).astype(np.uint8)


def edges(margin: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where 32 pixels between margins begin and end, as whole and broken parts [33] each."""
    places = np.linspace(margin, size - margin, SIDE + 1)
    whole = np.minimum(places.astype(np.int64), size - 1)
    return whole, places - whole


def colours(image: np.ndarray) -> bytes:
    """Compute the mean Cr and Cb, uint8 [8, 8, 2], of the cells of an image uint8 [height, width, 3]."""
    cells = cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(cells, cv2.COLOR_RGB2YCrCb)[:, :, 1:].tobytes()


def look_at(images: Iterable[bytes], decode: Decode = decode_both) -> list[Hashes]:
    """Compute the hashes of images, of which one at a time is decoded in memory; those of a broken one are None."""
    views, found = [], []
    for one in images:
        try:
            grey, colour = decode(one)
        except ValueError:
            found.append(UNREADABLE)
        else:
            views.append(thumbnails(grey))
            found.append({"colours": colours(colour)})
    hashes = perceptual_hash(np.concatenate(views)) if views else np.empty((0, HASH_BYTES))
    rest = iter(hashes.reshape(-1, VIEWS, HASH_BYTES))
    return [one | _named(next(rest)) if one["colours"] else one for one in found]


def _named(hashes: np.ndarray) -> Hashes:
    return {"looks": hashes[0].tobytes(), "views": hashes[1:].tobytes()}


def read(tar: str | Path, places: Iterable[tuple[int, int]]) -> list[bytes]:
    """Read members of a tar by (offset, size)."""
    contents = []
    with open(tar, "rb") as file:
        for offset, size in places:
            file.seek(offset)
            contents.append(file.read(size))
    return contents


def chunks_of(samples: list[Arrived]) -> Iterator[list[Arrived]]:
    """Yield lists of at most `CHUNK` samples, and of at most `BYTES` if it is more than one, in order."""
    first, size = 0, 0
    for end, sample in enumerate(samples):
        size += sample.place[1]
        if end > first and (end - first == CHUNK or size > BYTES):
            yield samples[first:end]
            first, size = end, sample.place[1]
    if first < len(samples):
        yield samples[first:]


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield lists of `CHUNK` items, which bound how many images are in memory."""
    rest = iter(items)
    while some := list(islice(rest, CHUNK)):
        yield some


def part_tables(tar: ArrivedTar, path: Path) -> Iterator[pa.Table]:
    """Yield the fingerprints of one of a part's tars, which is here at `path`, in key order."""
    for samples in chunks_of(tar.samples):
        images = read(path, [sample.place for sample in samples])
        rows = [
            {
                "key": sample.key,
                "url": sample.url,
                "sha256": bytes.fromhex(sample.sha256) if sample.sha256 else sha256(image).digest(),
                "captioned": any(map(has_words, sample.captions.all)),
            }
            | value
            for sample, image, value in zip(samples, images, look_at(images), strict=True)
        ]
        yield pa.Table.from_pylist(rows, schema=PART)


def part_fingerprints(download: Path, hold: Hold = not_fetched) -> Iterator[pa.Table]:
    """Yield tables of a part's fingerprints; `download` is its account, `hold` gives copies of tars that lie
    elsewhere."""
    for tar in tqdm(arrived(download), desc="fingerprints", unit="tar", disable=None):
        with local(tar.path, hold) as path:
            yield from part_tables(tar, path)


def write(tables: Iterable[pa.Table], schema: pa.Schema, out: str | Path) -> None:
    """Write tables as one parquet file."""
    with atomic(out) as file, pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            writer.write_table(table)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.fingerprints", description=__doc__.splitlines()[0])
    parser.add_argument("--params", help="frozen parameters; needed for tars that lie elsewhere (source.cache)")
    parser.add_argument("--download", type=Path, required=True, help="account of a part; the images lie beside it")
    parser.add_argument("--out", required=True, help="the fingerprints (parquet)")
    options = parser.parse_args(argv)
    try:
        hold = TarCache(load(options.params).source.cache).hold if options.params else not_fetched
        write(part_fingerprints(options.download, hold), PART, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
