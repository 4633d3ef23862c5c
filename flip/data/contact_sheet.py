"""Compose contact sheets, images in rows and columns of one small image, for people to look at."""

import io
import textwrap
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHOWN = 12  # pictures on a sheet
SIDE, COLUMNS, GAP, WHITE = 96, 6, 4, 255  # pixels, stacks in a row, pixels, byte
GOLDEN = (5**0.5 - 1) / 2
QUALITY = 80  # of WebP; a sheet of twelve pictures in three rows takes some 40 kB
TEXT, LINES = 13, 3  # pixels, lines below a picture
HIT, MISS = ("hit", (0, 102, 75)), ("miss", (168, 56, 11))  # words, and their colours on the report's page


def spread(total: int, count: int) -> list[int]:
    """Choose at most `count` of the indices from 0 to total - 1, ascending: one of each equal interval.

    The place within an interval advances by the golden ratio, so that no regular order of classes is sampled in step.
    """
    count = min(total, count)
    ends = [place * total // count for place in range(count + 1)] if count else []
    return [low + int((high - low) * (place * GOLDEN % 1)) for place, (low, high) in enumerate(pairwise(ends))]


def cell(picture: np.ndarray) -> np.ndarray:
    """Resize an image uint8 [height, width, 3] to a cell [SIDE, SIDE, 3]; small ones are enlarged without
    interpolation."""
    how = cv2.INTER_NEAREST if picture.shape[0] <= SIDE else cv2.INTER_AREA
    return cv2.resize(picture, (SIDE, SIDE), interpolation=how)


def label(text: str, mark: str, colour: tuple[int, int, int]) -> np.ndarray:
    """Draw a cell of text, uint8 [height, SIDE, 3]: a text in black on white, wrapped, and below it a mark in its
    colour."""
    lines = textwrap.wrap(text, 15, max_lines=LINES, placeholder="...")
    image = Image.new("RGB", (SIDE, TEXT * (len(lines) + 1)), (WHITE,) * 3)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=TEXT - 1)
    for number, line in enumerate([*lines, mark]):
        draw.text((0, TEXT * number), line, fill=(0, 0, 0) if number < len(lines) else colour, font=font)
    return np.array(image)


def _beside(parts: list[np.ndarray], axis: int, gap: int) -> np.ndarray:
    """Join parts along an axis with white between them; shorter ones are padded with white."""
    across = max(part.shape[1 - axis] for part in parts)
    padded = []
    for number, part in enumerate(parts):
        room = [(0, 0)] * 3
        room[axis] = (gap if number else 0, 0)
        room[1 - axis] = (0, across - part.shape[1 - axis])
        padded.append(np.pad(part, room, constant_values=WHITE))
    return np.concatenate(padded, axis=axis)


def sheet(stacks: list[list[np.ndarray]]) -> np.ndarray:
    """Compose a sheet uint8 [height, width, 3]: the cells of a stack from top to bottom, stacks from left to right, in
    rows."""
    columns = [_beside(stack, 0, GAP) for stack in stacks]
    rows = [_beside(columns[start : start + COLUMNS], 1, GAP) for start in range(0, len(columns), COLUMNS)]
    return _beside(rows, 0, 4 * GAP)


def webp(image: np.ndarray) -> bytes:
    """Encode an image uint8 [height, width, 3] as WebP; equal images give equal bytes with one version of the
    library."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()
