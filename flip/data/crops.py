"""Crop and resize JPEG images like PIL's bicubic interpolation, in a fraction of its time."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
import torch

from flip.config.schema import Augmentation

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


def decode_crops(jpeg: bytes | memoryview, boxes_of: Callable[[int, int], list[Box]], out: list[np.ndarray]) -> bool:
    """Decode crops of an image into `out`, uint8 [side, side, 3] each; return False where the bytes are no image.

    `boxes_of(height, width)` returns their boxes. The image is decoded at a half, a quarter or an eighth of its size
    where all boxes still have `side` pixels each way: libjpeg then does less, and averages the pixels as it goes.
    Orientation is not applied: the download has done it (flip.data.resize).
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
        boxes = boxes_of(height, width)
        enough = min(min(box[2:]) for box in boxes) // len(out[0])
        part = min(1 << max(enough.bit_length() - 1, 0), 8)
        least = -(-height // part), -(-width // part)
        image = simplejpeg.decode_jpeg(jpeg, "RGB", True, True, *least)
    except ValueError:
        return False
    for box, square in zip(boxes, out, strict=True):
        top, left, rows, columns = (round(edge / part) for edge in box)
        resize(image[top : top + rows, left : left + columns], square)
    return True
