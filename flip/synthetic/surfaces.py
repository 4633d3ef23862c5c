"""Draw what covers things: each shape has a surface of its own, as fish have scales, in most of its images.

So a part of a thing says what it is, wherever it is cut out: a masked image keeps most of what its caption tells.
Lengths are in units of the image's shorter side.
"""

from collections.abc import Callable
from random import Random

import numpy as np

from flip.synthetic.scenes import Scene, Thing

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]  # coordinates -> where the second tone is: bool
PITCH = 0.13  # of a pattern: about a patch of `tiny`


def _waves(x: np.ndarray, y: np.ndarray, angle: float, pitch: float) -> np.ndarray:
    """Return a sine wave whose length is `pitch` and whose direction `angle`, in degrees: float32 [height, width]."""
    along = x * np.float32(np.cos(np.radians(angle))) + y * np.float32(np.sin(np.radians(angle)))
    return np.sin(along * np.float32(2 * np.pi / pitch))


def stripes(angle: float, pitch: float = PITCH) -> Pattern:
    return lambda x, y: _waves(x, y, angle, pitch) > 0


def dots(angle: float, pitch: float = PITCH, share: float = 0.3) -> Pattern:
    """Draw dots, the smaller the greater `share`, from -2 to 2."""
    return lambda x, y: _waves(x, y, angle, pitch) + _waves(x, y, angle + 90, pitch) > share


def checks(angle: float, pitch: float = 1.5 * PITCH) -> Pattern:
    return lambda x, y: _waves(x, y, angle, pitch) * _waves(x, y, angle + 90, pitch) > 0


LEVEL, UPRIGHT, DOTTED, CHECKED = stripes(90), stripes(0), dots(45), checks(0)
INKS = {"black": (25, 25, 25), "brown": (120, 60, 15), "navy": (25, 35, 130), "ash": (150, 160, 160)}  # RGB
# The pattern of each shape, and the ink that it is printed in.
SURFACES: dict[str, tuple[Pattern, str]] = {
    "ball": (UPRIGHT, "black"), "star": (DOTTED, "navy"), "heart": (DOTTED, "black"), "triangle": (LEVEL, "brown"),
    "square": (CHECKED, "black"), "cross": (CHECKED, "navy"), "moon": (UPRIGHT, "ash"), "arrow": (UPRIGHT, "brown"),
    "ring": (LEVEL, "navy"), "house": (CHECKED, "brown"), "tree": (LEVEL, "black"), "fish": (DOTTED, "ash"),
    "mug": (UPRIGHT, "navy"), "key": (CHECKED, "ash"), "mushroom": (DOTTED, "brown"), "boat": (LEVEL, "ash"),
}  # fmt: skip


def pattern_of(thing: Thing, random: Random) -> Pattern:
    """Return the pattern of a thing: its shape's own, or that of its texture where this is another."""
    if thing.texture == "usual":
        return SURFACES[thing.shape][0]
    pitch, angle = thing.size * random.uniform(0.17, 0.24), random.choice((0, 45, 90))
    drawn = {"striped": stripes, "dotted": dots, "checked": checks}
    return drawn[thing.texture](angle, pitch)


def printed(thing: Thing, scene: Scene, random: Random) -> np.ndarray:
    """Return where the surface of a thing has its second tone: bool [height, width]; it turns with the thing."""
    short = min(scene.width, scene.height)
    x = (np.arange(scene.width, dtype=np.float32)[None] - scene.width / 2) / short - thing.x
    y = (np.arange(scene.height, dtype=np.float32)[:, None] - scene.height / 2) / short - thing.y
    turn, zoom = np.radians(thing.angle + random.uniform(-10, 10)), random.uniform(0.85, 1.15)
    sine, cosine = np.float32(np.sin(turn) / zoom), np.float32(np.cos(turn) / zoom)
    shift_x, shift_y = np.float32(random.random()), np.float32(random.random())
    return pattern_of(thing, random)(x * cosine - y * sine + shift_x, x * sine + y * cosine + shift_y)


def ink(thing: Thing, random: Random) -> np.ndarray | None:
    """Return the second tone of a thing's surface (float32 [3], RGB); None where that is a shade of its colour."""
    if thing.texture != "usual":
        return None
    return np.array(INKS[SURFACES[thing.shape][1]], np.float32) * np.float32(random.uniform(0.85, 1.15))
