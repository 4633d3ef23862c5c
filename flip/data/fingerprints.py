"""Compute fingerprints of images, to find duplicates: hashes of each one's bytes and of its looks.

python -m flip.data.fingerprints --download data/tiny/download/0000.json --out data/tiny/fingerprints/0000.parquet
"""

import argparse
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from tqdm import tqdm

from flip.data.arrived import Arrived, ArrivedTar, arrived
from flip.files import atomic
from flip.formats.images import decode, is_plain
from flip.formats.words import has_words

Item = TypeVar("Item")

CHUNK, BYTES = 512, 1 << 26  # images in memory, as they are stored
SIDE, LOW = 32, 16  # images are compared at 32 x 32 pixels, by their 16 x 16 lowest frequencies
HASHES = [("sha256", pa.binary(32)), ("looks", pa.binary(LOW * LOW // 8))]
# No `looks` means that the image cannot be decoded.
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


def decode_grey(encoded: bytes) -> np.ndarray | None:
    """Decode an image as it is displayed, in grey: uint8 [height, width]; None if it is broken or cut short."""
    try:
        if not is_plain(encoded):
            return np.asarray(decode(encoded).convert("L"))
        if not simplejpeg.is_jpeg(encoded):
            return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
        return simplejpeg.decode_jpeg(encoded, colorspace="GRAY")[:, :, 0]
    except ValueError:
        return None


def hash_images(encoded: list[bytes]) -> list[bytes | None]:
    """Compute the perceptual hash of each encoded image; None for a broken one."""
    images = [decode_grey(one) for one in encoded]
    thumbnails = [
        cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images if image is not None
    ]
    hashes = iter(perceptual_hash(np.stack(thumbnails)) if thumbnails else [])
    return [None if image is None else next(hashes).tobytes() for image in images]


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


def part_tables(tar: ArrivedTar) -> Iterator[pa.Table]:
    """Yield the fingerprints of one of a part's tars, in key order."""
    for samples in chunks_of(tar.samples):
        images = read(tar.path, [sample.place for sample in samples])
        rows = [
            {
                "key": sample.key,
                "url": sample.url,
                "sha256": bytes.fromhex(sample.sha256) if sample.sha256 else sha256(image).digest(),
                "looks": value,
                "captioned": any(map(has_words, sample.captions)),
            }
            for sample, image, value in zip(samples, images, hash_images(images), strict=True)
        ]
        yield pa.Table.from_pylist(rows, schema=PART)


def part_fingerprints(download: Path) -> Iterator[pa.Table]:
    """Yield tables of a part's fingerprints; `download` is its account."""
    for tar in tqdm(arrived(download), desc="fingerprints", unit="tar", disable=None):
        yield from part_tables(tar)


def write(tables: Iterable[pa.Table], schema: pa.Schema, out: str | Path) -> None:
    """Write tables as one parquet file."""
    with atomic(out) as file, pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            writer.write_table(table)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.fingerprints", description=__doc__.splitlines()[0])
    parser.add_argument("--download", type=Path, required=True, help="account of a part; the images lie beside it")
    parser.add_argument("--out", required=True, help="the fingerprints (parquet)")
    options = parser.parse_args(argv)
    try:
        write(part_fingerprints(options.download), PART, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
