"""Augment the colours of views of images (SimCLR, Chen et al. 2020, appendix A): jitter, grey, blur, on bytes and given
numbers.

The four changes of the jitter are torchvision's on images of bytes, to the last bit or two of each.
"""

from typing import NamedTuple

import cv2
import numpy as np

from flip.config.schema import Views


class ViewSet(NamedTuple):
    """Say how further views of each image are made, how many, and how many pixels a side each has."""

    how: Views
    number: int
    side: int


DRAWS = 12  # whether to jitter, 4 for the order, 4 amounts; gray; whether to blur, how far
LEVELS = np.arange(256)


def in_gray(image: np.ndarray) -> np.ndarray:
    """Convert uint8 [side, side, 3] to luma (ITU-R 601), all channels alike."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def scale_levels(image: np.ndarray, factor: float, around: float) -> np.ndarray:
    """Scale each value's distance from `around` by `factor`, clipped to bytes: uint8 [height, width, 3]."""
    return cv2.LUT(image, (around + factor * (LEVELS - around)).clip(0, 255).astype(np.uint8))


def brighten(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the brightness of uint8 [side, side, 3]."""
    return scale_levels(image, factor, 0.0)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the contrast of uint8 [side, side, 3] around its mean luma."""
    return scale_levels(image, factor, round(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()))


def saturate(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale the saturation of uint8 [side, side, 3]."""
    return cv2.addWeighted(image, factor, in_gray(image), 1 - factor, 0)


def turn_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue of uint8 [side, side, 3] by a share of the circle."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(int(turn * 255) % 256)  # bytes go round as the circle does
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def jitter(image: np.ndarray, views: Views, order: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Apply all four changes in a random order, by amounts that `amounts` [4] in [0, 1) pick from their ranges."""
    changes = [
        (brighten, 1, views.brightness),
        (contrast, 1, views.contrast),
        (saturate, 1, views.saturation),
        (turn_hue, 0, views.hue),
    ]
    for one in order.argsort(kind="stable"):
        change, middle, most = changes[one]
        image = change(image, middle + most * (2 * amounts[one] - 1))
    return image


def recolour(image: np.ndarray, views: Views, draws: np.ndarray) -> np.ndarray:
    """Augment a crop uint8 [side, side, 3]: colour jitter, grey and blur, each with its probability, by uniform numbers
    [DRAWS]."""
    to_jitter, order, amounts, (to_gray, to_blur, far) = draws[0], draws[1:5], draws[5:9], draws[9:]
    image = np.ascontiguousarray(image)
    if to_jitter < views.jitter_share:
        image = jitter(image, views, order, amounts)
    if to_gray < views.gray_share:
        image = in_gray(image)
    if to_blur < views.blur_share:
        low, high = views.blur_sigma
        image = cv2.GaussianBlur(image, (0, 0), low + (high - low) * far)
    return image
