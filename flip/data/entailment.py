"""Statements about pictures, right or contradicted, each beside a caption that settles the matter, too.

So one question is asked of pictures and of words: does a statement follow from a picture, as in SNLI-VE (Xie et al.
2019, arXiv 1901.06706), and does it agree with a caption of that picture, as in SNLI (Bowman et al. 2015)? A wrong
statement is a right caption of another scene, which differs in one respect, or has two things' colours exchanged. The
caption tells that respect, and the statement tells it otherwise.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

from flip.data.captions import describe
from flip.data.index import members
from flip.data.scenes import BACKGROUNDS, COLOURS, SHAPES, Scene

KIND = "entailment"
CLASSES = ("contradicted", "right")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def other(random: Random, known: tuple, *taken: str) -> str:
    return random.choice([one for one in known if one not in taken])


def repainted(scene: Scene, random: Random) -> Scene:
    """Another colour of the main thing, and of all that are like it."""
    colour = other(random, COLOURS, *(thing.colour for thing in scene.things))
    same = len(scene.things) if scene.alike else 1
    things = [replace(thing, colour=colour) for thing in scene.things[:same]]
    return replace(scene, things=(*things, *scene.things[same:]))


def reshaped(scene: Scene, random: Random) -> Scene:
    """Another shape of the main thing, and of all that are like it."""
    shape = other(random, SHAPES, *(thing.shape for thing in scene.things))
    same = len(scene.things) if scene.alike else 1
    things = [replace(thing, shape=shape) for thing in scene.things[:same]]
    return replace(scene, things=(*things, *scene.things[same:]))


def elsewhere(scene: Scene, random: Random) -> Scene:
    return replace(scene, background=other(random, BACKGROUNDS, scene.background))


def turned(scene: Scene, random: Random) -> Scene:
    """The main thing on the other side of the second; the same scene where it cannot be said so."""
    return replace(scene, relation=OPPOSITE.get(scene.relation, scene.relation))


def exchanged(scene: Scene, random: Random) -> Scene:
    """The colours of the first two things exchanged; the same scene where that changes nothing."""
    if len(scene.things) < 2 or scene.things[0].shape == scene.things[1].shape:
        return scene
    first, second, *more = scene.things
    return replace(scene, things=(replace(first, colour=second.colour), replace(second, colour=first.colour), *more))


CHANGES = (repainted, reshaped, elsewhere, turned, exchanged)


def told(scene: Scene, changed: Scene, random: Random) -> tuple[str, str] | None:
    """A caption of the scene, and what the same words would be of the changed one; None where they tell no difference.

    Both are drawn with the same random numbers: what is not told of a scene draws no word.
    """
    state = random.getstate()
    right = describe(scene, random, detail=True)
    random.setstate(state)
    wrong = describe(changed, random, detail=True)
    return None if right.lower() == wrong.lower() else (right, wrong)


def statement(scene: Scene, random: Random) -> tuple[str, str, int]:
    """A caption of the scene, a statement, and whether it is right: the index of its class, each with equal chance."""
    holds = random.randrange(2)
    while True:
        changed = random.choice(CHANGES)(scene, random)
        caption, claim = told(scene, changed, random), told(scene, changed, random)
        if caption and claim:
            return caption[0], claim[0 if holds else 1], holds


def annotations(scene: Scene, random: Random) -> dict[str, str]:
    """What stands beside a picture: its class, and in two lines caption and statement."""
    caption, claim, holds = statement(scene, random)
    return {"cls": str(holds), "txt": f"{caption}\n{claim}"}


def texts(tars: list[Path]) -> list[list[str]]:
    """Caption and statement of each picture of a set, in the order of the tars.

    Raises:
        ValueError: a picture without the two.
    """
    found = []
    for tar in tars:
        with open(tar, "rb") as file:
            for key, files in sorted(members(tar).items(), key=lambda item: min(item[1].values())):
                offset, size = files.get("txt", (0, 0))
                file.seek(offset)
                found.append(file.read(size).decode().strip().splitlines())
                if len(found[-1]) != 2:
                    raise ValueError(
                        f"{tar}: {key}.txt has {len(found[-1])} lines; it needs two, a caption of the picture and a "
                        "statement about it"
                    )
    return found
