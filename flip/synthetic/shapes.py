"""Define the outlines of shapes, and place them in an image.

Outlines are closed polygons, y downwards; where two of one shape overlap there is a hole.
"""

from functools import cache

import cv2
import numpy as np

from flip.synthetic.scenes import Thing


def arc(x: float, y: float, rx: float, ry: float, start: int = 0, stop: int = 360) -> np.ndarray:
    """Return part of an ellipse, angles in degrees, clockwise from the right: float [n, 2]."""
    angles = np.radians(np.linspace(start, stop, max(8, abs(stop - start) // 9)))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], 1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return a rectangle: float [4, 2]."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def star() -> np.ndarray:
    radius = np.where(np.arange(10) % 2, 0.44, 1.0)
    angles = np.radians(np.arange(10) * 36 - 90)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)


def heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], 1)


def fish() -> np.ndarray:
    body = arc(-0.2, 0, 0.75, 0.5, 25, 335)
    return np.concatenate([body, [(0.95, -0.5), (0.8, 0), (0.95, 0.5)]])


def cross() -> np.ndarray:
    arm = np.array([(-0.33, -1), (0.33, -1), (0.33, -0.33)])
    turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([arm @ np.linalg.matrix_power(turn, quarter) for quarter in range(4)])


def tree() -> np.ndarray:
    side = [(0, -1), (0.4, -0.45), (0.2, -0.45), (0.58, 0.08), (0.3, 0.08), (0.75, 0.65), (0.15, 0.65), (0.15, 1)]
    return np.array(side + [(-x, y) for x, y in reversed(side)], float)


def key() -> list[np.ndarray]:
    shaft = [(-0.2, -0.12), (1, -0.12), (1, 0.5), (0.8, 0.5), (0.8, 0.12), (0.62, 0.12), (0.62, 0.4), (0.42, 0.4)]
    bow = arc(-0.58, 0, 0.42, 0.42, 17, 343)
    return [np.concatenate([bow, shaft, [(0.42, 0.12)]]), arc(-0.58, 0, 0.2, 0.2)]


def house() -> list[np.ndarray]:
    wall = [(-0.95, -0.1), (0, -0.95), (0.35, -0.63), (0.35, -0.9), (0.6, -0.9), (0.6, -0.42), (0.95, -0.1)]
    ground = [(0.75, -0.1), (0.75, 0.9), (-0.75, 0.9), (-0.75, -0.1)]
    return [np.array(wall + ground), box(-0.15, 0.3, 0.2, 0.9)]


def mug() -> list[np.ndarray]:
    body = [(-0.9, -0.8), (0.4, -0.8)]
    handle = arc(0.4, 0, 0.5, 0.5, -80, 80)
    return [np.concatenate([body, handle, [(0.4, 0.8), (-0.9, 0.8)]]), arc(0.4, 0, 0.27, 0.27, -90, 90)]


def boat() -> list[np.ndarray]:
    hull = np.array([(-1, 0.35), (1, 0.35), (0.6, 0.85), (-0.6, 0.85)])
    return [
        hull,
        np.array([(0.08, -0.95), (0.08, 0.25), (0.9, 0.25)]),
        np.array([(-0.06, -0.7), (-0.06, 0.25), (-0.7, 0.25)]),
    ]


def mushroom() -> np.ndarray:
    return np.concatenate([arc(0, 0, 0.95, 0.85, 180, 360), [(0.28, 0.05), (0.36, 0.85), (-0.36, 0.85), (-0.28, 0.05)]])


OUTLINES = {
    "ball": [arc(0, 0, 1, 1)],
    "star": [star()],
    "heart": [heart()],
    "triangle": [np.array([(0, -0.87), (1, 0.87), (-1, 0.87)])],
    "square": [box(-1, -1, 1, 1)],
    "cross": [cross()],
    "moon": [np.concatenate([arc(0, 0, 1, 1, 50, 310), arc(0.42, 0, 0.8, 0.8, 287, 73)])],
    "arrow": [np.array([(-1, -0.25), (0.1, -0.25), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25)])],
    "ring": [arc(0, 0, 1, 1), arc(0, 0, 0.55, 0.55)],
    "house": house(),
    "tree": [tree()],
    "fish": [fish(), arc(-0.6, -0.12, 0.09, 0.09)],
    "mug": mug(),
    "key": key(),
    "mushroom": [mushroom()],
    "boat": boat(),
}


@cache
def outline(shape: str) -> tuple[np.ndarray, ...]:
    """Return a shape's polygons, within -1..1; slim shapes are larger, so that the area tells little of the shape."""
    points = np.concatenate(OUTLINES[shape])
    middle, reach = (points.max(0) + points.min(0)) / 2, np.ptp(points, axis=0).max() / 2
    polygons = [(polygon - middle) / reach for polygon in OUTLINES[shape]]
    mask = np.zeros((128, 128), np.uint8)
    cv2.fillPoly(mask, [np.round(64 + 63 * polygon).astype(np.int32) for polygon in polygons], 1)
    scale = np.clip((0.35 / mask.mean()) ** 0.45, 0.68, 1.0)
    return tuple(polygon * scale for polygon in polygons)


def placed(thing: Thing, width: int, height: int) -> list[np.ndarray]:
    """Return a thing's polygons in pixels, int32 [n, 2] each, fixed-point with 4 fractional bits, as OpenCV wants."""
    short = min(width, height)
    angle, pan, pitch = np.radians([thing.angle, *thing.tilt])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    polygons = []
    for polygon in outline(thing.shape):
        points = (polygon * (-1 if thing.mirrored else 1, 1)) @ turn
        depth = 1 + 0.35 * (points[:, :1] * np.sin(pan) + points[:, 1:] * np.sin(pitch))
        points = points * (np.cos(pan), np.cos(pitch)) / depth
        pixels = (width / 2 + thing.x * short, height / 2 + thing.y * short) + points * (thing.size * short / 2)
        polygons.append(np.round(pixels * 16).astype(np.int32))
    return polygons
