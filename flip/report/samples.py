"""Show examples of the training data: images with their captions from the shards."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flip.data.contact_sheet import QUALITY, SHOWN, spread
from flip.data.shard import read_index
from flip.formats.images import decode

SIDE = 128  # pixels of the longer side, at most


@dataclass(frozen=True)
class Example:
    """Hold an image that is part of the page, with its size in pixels."""

    source: str
    size: tuple[int, int]
    caption: str


def example(tar: Path, row: np.ndarray) -> Example:
    """Return the sample that a row of the shard's index points at."""

    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    with open(tar, "rb") as file:
        jpeg, text = (read(*place) for place in row.reshape(2, 2).tolist())
    image, picture = decode(jpeg, str(tar)).convert("RGB"), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(picture, "WEBP", quality=QUALITY, method=6)
    source = f"data:image/webp;base64,{b64encode(picture.getvalue()).decode()}"
    return Example(source, image.size, text.decode().strip())


def examples(data: Path, manifest: dict) -> tuple[list[Example], str | None]:
    """Return samples that are spread evenly over the shards, or why there are none."""
    shards = [data / "shards" / shard["name"] for shard in manifest["shards"]]
    ends = np.cumsum([shard["samples"] for shard in manifest["shards"]], dtype=int)
    if not len(ends):
        return [], "the manifest names no shards"
    found = []
    try:
        for place in spread(int(ends[-1]), SHOWN):
            shard = int(np.searchsorted(ends, place, side="right"))
            start = int(ends[shard - 1]) if shard else 0
            found.append(example(shards[shard], read_index(shards[shard])[place - start]))
    except (ValueError, OSError) as error:
        return [], str(error)
    return found, None
