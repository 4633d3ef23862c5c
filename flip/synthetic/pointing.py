"""Draw test images of two or three different things, one of which is named and has to be located.

The things are about equally large and lie in different quarters of the central square, the named one in any of them
with equal probability: neither size nor place gives it away, and no two overlap.
"""

import json
from dataclasses import replace
from random import Random

import numpy as np

from flip.synthetic.languages.english import article
from flip.synthetic.render import silhouette
from flip.synthetic.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing, draw_size, draw_thing
from flip.synthetic.shapes import placed

QUARTERS = ((-1, -1), (1, -1), (-1, 1), (1, 1))
SIZES = (0.38, 0.46)  # no thing is slimmer than a patch of `tiny`, and each fits its quarter
ROOM = 0.5 / 1.07  # a quarter's side, over what turning adds to a thing at most


def draw_group(random: Random, look: str) -> Scene:
    """Draw a scene of things that differ in shape and in colour; the first is the one that is named."""
    count = random.choice((2, 3))
    shapes, colours = random.sample(SHAPES, count), random.sample(COLOURS, count)
    things = []
    for (right, below), shape, colour in zip(random.sample(QUARTERS, count), shapes, colours, strict=True):
        thing = draw_thing(random, SIZES, shape, colour)
        slack = (ROOM - thing.size) / 2
        x, y = (0.25 * side + random.uniform(-slack, slack) for side in (right, below))
        things.append(replace(thing, x=x, y=y))
    return Scene(tuple(things), None, random.choice(BACKGROUNDS), look=look, **draw_size(random))


def box(thing: Thing, scene: Scene) -> list[int]:
    """Return the bounding box of a thing: left, top, right and bottom edge in pixels from the upper left corner."""
    mask = silhouette(placed(thing, scene.width, scene.height), scene) >= 128
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return [int(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def annotations(scene: Scene) -> dict[str, str]:
    """Return a test image's annotations by file extension: the named thing in words (txt), and its box (json)."""
    named = f"{scene.main.colour} {scene.main.shape}"
    return {"txt": article(named), "json": json.dumps({"box": box(scene.main, scene)})}
