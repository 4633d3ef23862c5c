"""Change a scene in one respect, and describe both: wrong statements and hard-negative captions are made of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random

from flip.synthetic.captions import describe
from flip.synthetic.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def other(random: Random, known: tuple[str, ...], *taken: str) -> str:
    """Draw one of the known values that is not taken."""
    return random.choice([one for one in known if one not in taken])


def repainted(scene: Scene, random: Random) -> Scene:
    """Return the scene with another colour of the main thing, and of all that are like it."""
    colour = other(random, COLOURS, *(thing.colour for thing in scene.things))
    same = len(scene.things) if scene.alike else 1
    things = [replace(thing, colour=colour) for thing in scene.things[:same]]
    return replace(scene, things=(*things, *scene.things[same:]))


def reshaped(scene: Scene, random: Random) -> Scene:
    """Return the scene with another shape of the main thing, and of all that are like it."""
    shape = other(random, SHAPES, *(thing.shape for thing in scene.things))
    same = len(scene.things) if scene.alike else 1
    things = [replace(thing, shape=shape) for thing in scene.things[:same]]
    return replace(scene, things=(*things, *scene.things[same:]))


def elsewhere(scene: Scene, random: Random) -> Scene:
    """Return the scene before another background."""
    return replace(scene, background=other(random, BACKGROUNDS, scene.background))


def turned(scene: Scene, random: Random) -> Scene:
    """Return the scene with the opposite relation; the same scene where the relation has no opposite."""
    return replace(scene, relation=OPPOSITE.get(scene.relation or "", scene.relation))


def exchanged(scene: Scene, random: Random) -> Scene:
    """Return the scene with the colours of the first two things exchanged; the same scene if that changes nothing."""
    if len(scene.things) < 2 or scene.things[0].shape == scene.things[1].shape:
        return scene
    first, second, *more = scene.things
    return replace(scene, things=(replace(first, colour=second.colour), replace(second, colour=first.colour), *more))


def swapped(scene: Scene, random: Random) -> Scene:
    """Return the scene with the first two things in each other's place."""
    first, second, *more = scene.things
    return replace(scene, things=(second, first, *more))


in_detail = partial(describe, detail=True)


def texts_of(
    scene: Scene, changed: Scene, random: Random, say: Callable[[Scene, Random], str] = in_detail
) -> tuple[str, str] | None:
    """Return the texts that `say` gives for a scene and for the changed one; None if they are equal.

    Both are drawn with the same random numbers, so that they differ in what was changed alone.
    """
    state = random.getstate()
    right = say(scene, random)
    random.setstate(state)
    wrong = say(changed, random)
    return None if right.lower() == wrong.lower() else (right, wrong)
