"""Read images, each with a caption and the box of what the caption names.

For each image a .txt holds the caption and a .json the box, {"box": [left, top, right, bottom]}, its edges in pixels
from the upper left corner of the image as it is displayed: after EXIF's orientation is applied.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flip.config.kinds.kind import Kind
from flip.formats.contents import contents, encoded_image
from flip.formats.layout import tars, text
from flip.formats.words import has_words

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Sample:
    encoded: bytes
    size: tuple[int, int]  # width and height as displayed
    caption: str
    box: tuple[float, float, float, float]
    name: str = "image"  # its tar and key, for messages

    @property
    def image(self) -> "Image.Image":
        """Decode it, anew each time, so that many samples take little memory."""
        from flip.formats.images import decode  # here, as every dry run loads this module

        return decode(self.encoded, self.name)

    @property
    def square(self) -> tuple[float, ...]:
        """Return the box's edges seen in the central square of the image, which is what models are shown: 0 to 1."""
        width, height = self.size
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        return tuple(
            min(max((edge - start) / short, 0.0), 1.0)
            for edge, start in zip(self.box, (left, top, left, top), strict=True)
        )

    @property
    def share(self) -> float:
        """Return how much of the square's area lies in the box."""
        left, top, right, bottom = self.square
        return (right - left) * (bottom - top)


def _box(content: bytes, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box, if it has an area within the image."""
    try:
        left, top, right, bottom = (float(edge) for edge in json.loads(content)["box"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise ValueError(f"'{content[:80].decode(errors='replace')}'") from None
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(f"{[left, top, right, bottom]} in an image of {size[0]} x {size[1]} pixels")
    return left, top, right, bottom


def samples(tar: Path) -> Iterator[Sample]:
    """Read the samples of a tar, in its order.

    Raises:
        ValueError: an image without a caption, or without a box that lies within it.
    """
    from flip.formats.images import displayed_size  # here, as every dry run loads this module

    for key, content in contents(tar):
        where = f"{tar}: {key}"
        found, caption = encoded_image(content, where), text(content.get("txt", b""), f"{where}.txt").strip()
        if not has_words(caption):
            raise ValueError(f"{where} needs an image and a .txt with its caption; export the set again")
        size = displayed_size(found, where)
        try:
            box = _box(content.get("json", b""), size)
        except ValueError as error:
            raise ValueError(
                f"{where}.json is {error}; it needs {{'box': [left, top, right, bottom]}} in pixels of the "
                "image, the first two smaller"
            ) from None
        yield Sample(found, size, caption, box, where)


class Pointing(Kind):
    """Declare that the patch that fits the caption best should lie in the box."""

    name = "pointing"

    def facts(self, folder: Path, name: str, measure: str) -> dict:
        """Check the boxes; return how often a random point of the central square lies in its image's box, percent.

        Raises:
            ValueError: as `samples`.
        """
        shares = [sample.share for tar in tars(folder) for sample in samples(tar)]
        return {"chance": round(100 * sum(shares) / len(shares), 4)}


KIND = Pointing()
