"""Crop and resize images like PIL's bicubic interpolation, JPEGs in a fraction of its time."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
import torch

from flip.config.schema import Augmentation
from flip.formats.images import decode
from flip.formats.jpeg import is_plain_jpeg

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def crop_box(height: int, width: int, augmentation: Augmentation, draws: np.ndarray) -> Box:
    """Draw a random crop (top, left, height, width), in pixels: area and aspect ratio as in Inception's and
    torchvision's.

    `draws` holds uniform numbers float64 [tries, 4]; if no try fits inside the image, the largest centred crop of an
    allowed aspect ratio is taken. Where `crop_area` is all of the area, the box is the full image.
    """
    low, high = augmentation.crop_area
    if low == 1:
        return 0, 0, height, width
    shortest, longest = map(math.log, augmentation.crop_aspect)
    for area, aspect, y, x in draws.tolist():  # numbers of Python's own are several times faster one by one
        area = height * width * (low + (high - low) * area)
        aspect = math.exp(shortest + (longest - shortest) * aspect)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    aspect = min(max(width / height, augmentation.crop_aspect[0]), augmentation.crop_aspect[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (height - h) // 2, (width - w) // 2, h, w


def resize(image: np.ndarray, out: np.ndarray) -> None:
    """Resize uint8 [height, width, 3] into `out` [side, side, 3]: bicubic and antialiased, as PIL's up to rounding."""
    # What torch.nn.functional.interpolate calls; that has no `out`, and to make the result and to copy it to its place
    # would take longer than to compute it.
    planes, found = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (np.ascontiguousarray(image), out))
    torch.ops.aten._upsample_bicubic2d_aa.out(planes, out.shape[:2], False, None, None, out=found)


def mirror(square: np.ndarray) -> None:
    """Flip uint8 [side, side, 3] horizontally, in place."""
    cv2.flip(square, 1, dst=square)


def decode_crops(encoded: bytes | memoryview, boxes_of: Callable[[int, int], list[Box]], out: list[np.ndarray]) -> bool:
    """Decode crops of an image into `out`, uint8 [side, side, 3] each; return False where the bytes are no image.

    `boxes_of(height, width)` returns their boxes, of the image as it is displayed.
    """
    try:
        plain = is_plain_jpeg(encoded)
        image, boxes, part = _reduced(encoded, boxes_of, len(out[0])) if plain else _displayed(encoded, boxes_of)
    except ValueError:
        return False
    for box, square in zip(boxes, out, strict=True):
        top, left, rows, columns = (round(edge / part) for edge in box)
        resize(image[top : top + rows, left : left + columns], square)
    return True


def _reduced(jpeg: bytes | memoryview, boxes_of: Callable, side: int) -> tuple[np.ndarray, list[Box], int]:
    """Decode a plain JPEG at a half, a quarter or an eighth of its size where all boxes still have `side` pixels each
    way: libjpeg then does less, and averages the pixels as it goes. Return image, boxes and that part."""
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    boxes = boxes_of(height, width)
    enough = min(min(box[2:]) for box in boxes) // side
    part = min(1 << max(enough.bit_length() - 1, 0), 8)
    least = -(-height // part), -(-width // part)
    return simplejpeg.decode_jpeg(jpeg, "RGB", True, True, *least), boxes, part


def _displayed(encoded: bytes | memoryview, boxes_of: Callable) -> tuple[np.ndarray, list[Box], int]:
    """Decode any other image as browsers display it, at its own size."""
    image = np.array(decode(bytes(encoded)).convert("RGB"))  # torch takes no array that cannot be written to
    return image, boxes_of(*image.shape[:2]), 1
