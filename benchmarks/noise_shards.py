"""Write shards for measurements: JPEGs of noise, with captions of random words, in their original size and resized."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from flip.config.schema import Compact
from flip.data.compact import resize_jpeg
from flip.data.shard import Shard
from flip.data.shards import write_shard

COMPACT = Compact(image_size=72, quality=90)
WORDS = ("a", "photo", "of", "the", "old", "house", "dog", "street", "with", "and", "water", "sunset", "vintage")


def image(random: np.random.Generator) -> bytes:
    """Draw a JPEG of about 0.25 bytes per pixel: noise at all scales, as in photographs."""
    height, width = (256, int(random.integers(256, 400)))[:: random.choice((1, -1))]
    image = np.full((height, width, 3), 128, np.float32)
    for side in (2, 4, 8, 16, 32, 64, 128, 256):
        noise = random.standard_normal((side, side, 3)).astype(np.float32)
        image += 90 / side**0.55 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return simplejpeg.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), quality=87, colorsubsampling="420")


def samples(images: int) -> Iterator[dict[str, Any]]:
    """Yield images with captions of random words."""
    random = np.random.default_rng(0)
    for number in range(images):
        caption = " ".join(random.choice(WORDS, random.integers(5, 16)))
        yield {"__key__": f"{number:08d}", "jpg": image(random), "txt": caption.encode()}


def write(folder: Path, images: int) -> None:
    """Write the same pairs as a shard and as a compact (resized) one."""
    made = list(samples(images))
    write_shard(tar(folder, "original"), iter(made))
    write_shard(tar(folder, "resized"), ({**one, "jpg": resize_jpeg(one["jpg"], COMPACT)} for one in made))


def tar(folder: Path, kind: str) -> Path:
    """Return the path of a shard."""
    return folder / kind / "shards" / "0000" / "00000.tar"


def facts(folder: Path, kind: str) -> dict[str, Any]:
    """Return a manifest's entry for the shard."""
    path = tar(folder, kind)
    return {"name": "0000/00000.tar", "samples": len(Shard(path)), "sha256": kind, "bytes": path.stat().st_size}
