"""Draw backgrounds, noise and paper as large tiles, once per process; images use crops of them."""

from functools import cache
from random import Random

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

SIDE = 512  # of a tile, pixels; larger than any crop


def grain(random: Generator, across: int, down: int) -> np.ndarray:
    """Return smooth noise of unit variance, `across` by `down` random values interpolated: float32 [SIDE, SIDE]."""
    coarse = random.standard_normal((down, across)).astype(np.float32)
    noise = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return noise / noise.std()


def tinted(colour: ArrayLike, light: np.ndarray) -> np.ndarray:
    """Return a colour (RGB, 0 to 255) times a factor per pixel [SIDE, SIDE]: uint8 [SIDE, SIDE, 3]."""
    return np.clip(np.array(colour, np.float32) * light[..., None], 0, 255).astype(np.uint8)


def grass(random: Generator) -> np.ndarray:
    tile = tinted((92, 138, 48), 1 + 0.12 * grain(random, 12, 12) + 0.14 * grain(random, SIDE // 2, SIDE // 8))
    for _ in range(6000):
        x, y = random.integers(0, SIDE, 2).tolist()
        lean, length = random.integers(-4, 5).item(), random.integers(7, 18).item()
        blade = np.array((92, 140, 45)) * random.uniform(0.55, 1.35) + random.uniform(-12, 12, 3)
        cv2.line(tile, (x, y), (x + lean, y - length), np.clip(blade, 0, 255).tolist(), 1, cv2.LINE_AA)
    return tile


def sand(random: Generator) -> np.ndarray:
    y = np.arange(SIDE, dtype=np.float32)[:, None]
    ripples = np.sin(y / 7 + 2.2 * grain(random, 6, 4))
    return tinted((214, 184, 134), 1 + 0.06 * ripples + 0.05 * grain(random, SIDE, SIDE) + 0.04 * grain(random, 8, 8))


def water(random: Generator) -> np.ndarray:
    waves = grain(random, 24, 90) + 0.6 * grain(random, 50, 180)
    tile = tinted((44, 112, 158), 1 + 0.13 * waves + 0.06 * grain(random, 4, 6))
    tile[waves > 2.3] = (190, 220, 232)
    return tile


def night(random: Generator) -> np.ndarray:
    tile = tinted((20, 24, 52), 1 + 0.3 * grain(random, 5, 5))
    for _ in range(420):
        x, y = random.integers(0, SIDE, 2).tolist()
        glow = random.uniform(120, 255)
        cv2.circle(tile, (x, y), random.integers(0, 2).item(), (glow, glow, glow * 0.9), -1, cv2.LINE_AA)
    return tile


def snow(random: Generator) -> np.ndarray:
    drifts = 0.035 * grain(random, 5, 9) + 0.02 * grain(random, 30, 40) + 0.015 * grain(random, SIDE, SIDE)
    return tinted((224, 231, 242), 1 + drifts)


def brick(random: Generator) -> np.ndarray:
    tile = tinted((186, 176, 164), 1 + 0.06 * grain(random, 128, 128))
    rough = 1 + 0.07 * grain(random, 160, 160)
    for course, top in enumerate(range(0, SIDE, 24)):
        for left in range(-52 + course % 2 * 26, SIDE, 52):
            place = np.s_[top + 2 : top + 22, max(0, left + 2) : left + 50]
            colour = np.array((164, 78, 58)) * random.uniform(0.78, 1.15)
            tile[place] = np.clip(colour * rough[place][..., None], 0, 255)
    return tile


def wood(random: Generator) -> np.ndarray:
    tile = np.empty((SIDE, SIDE, 3), np.uint8)
    veins = 0.05 * grain(random, 4, 200) + 0.07 * np.sin(3 * grain(random, 5, 40)) + 0.03 * grain(random, 60, SIDE)
    for top in range(0, SIDE, 64):
        board = np.s_[top : top + 64]
        tile[board] = tinted((158, 112, 70), (1 + veins) * random.uniform(0.82, 1.12))[board]
        tile[top : top + 2] = (58, 40, 26)
    return tile


def paper(random: Generator) -> np.ndarray:
    return tinted((243, 240, 231), 1 + 0.012 * grain(random, SIDE, SIDE) + 0.012 * grain(random, 6, 6))


def noise(random: Generator) -> np.ndarray:
    """Draw grey and coloured noise around 128."""
    grey, colour = random.standard_normal((SIDE, SIDE, 1)), random.standard_normal((SIDE, SIDE, 3))
    return np.clip(128 + 24 * grey + 16 * colour, 0, 255).astype(np.uint8)


TILES = {tile.__name__: tile for tile in (grass, sand, water, night, snow, brick, wood, paper, noise)}


@cache
def tile(name: str) -> np.ndarray:
    """Return a tile by name, always the same: uint8 [SIDE, SIDE, 3], RGB."""
    return TILES[name](np.random.default_rng(sum(name.encode())))


def crop(name: str, width: int, height: int, random: Random, zoom: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Return a random crop of a tile, magnified by a factor drawn from `zoom`: uint8 [height, width, 3]."""
    scale = random.uniform(*zoom)
    part_width, part_height = min(SIDE, round(width / scale)), min(SIDE, round(height / scale))
    left, top = random.randint(0, SIDE - part_width), random.randint(0, SIDE - part_height)
    part = tile(name)[top : top + part_height, left : left + part_width]
    if random.random() < 0.5:
        part = part[:, ::-1]
    if part.shape[:2] != (height, width):
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(part)
