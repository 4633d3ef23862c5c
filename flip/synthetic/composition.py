"""Write pairs of a correct caption and a hard negative, which differs in how words go together, or in one of them.

As in SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610): an object, an attribute or a relation is replaced by another, or
two attributes change places. In place of its swapped objects, what two things are to each other is swapped, as in ARO's
relations (Yuksekgonul et al. 2023, arXiv 2210.01936). Both captions of a swap have the same words, as Winoground's
(Thrush et al. 2022, arXiv 2204.03162): who reads a caption as a bag of words guesses.
"""

from itertools import takewhile
from random import Random

from flip.config.kinds.composition import Pair
from flip.metrics.sets import PAIRS
from flip.synthetic.captions import name, word
from flip.synthetic.changes import OPPOSITE, exchanged, repainted, reshaped, swapped, texts_of, turned
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.scenes import RELATIONS, Scene, Thing

CHANGES = dict(zip(PAIRS, (reshaped, repainted, turned, exchanged, swapped), strict=True))
APART = 0.3  # of the image's shorter side: things in different quarters, along an axis that tells them apart


def relations(first: Thing, second: Thing) -> list[str]:
    """List the relations of the first of two things in different quarters to the second: one, or two on a diagonal."""
    away = second.x - first.x, second.y - first.y
    return [one for one in OPPOSITE if sum(a * b for a, b in zip(RELATIONS[one], away, strict=True)) > APART]


def related(group: Scene, random: Random) -> Scene:
    """Return a scene of the first of a group, another one, on one axis with it if possible, and their relation."""
    main, *others = group.things
    second = min(others, key=lambda thing: len(relations(main, thing)))
    return Scene(
        (main, second),
        random.choice(relations(main, second)),
        group.background,
        group.width,
        group.height,
        group.look,
    )


def caption(scene: Scene, random: Random) -> str:
    """Describe two things, each with shape and colour, and their relation: all that a pair may change is mentioned."""
    first, second = (name(thing, random, ENGLISH, named=1.0, coloured=1.0) for thing in scene.things)
    assert scene.relation is not None  # as `related` gives it one
    return ENGLISH.join(first, word(ENGLISH.relations[scene.relation], random), second)


def has_same_words(one: str, other: str) -> bool:
    """Return whether two captions are equal as bags of words."""
    return sorted(one.lower().split()) == sorted(other.lower().split())


def agreeing(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common prefix of two lists of words."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def differ_in_one_place(one: str, other: str) -> bool:
    """Return whether only one name, with its article, was replaced (names have at most two words)."""
    left, right = one.lower().split(), other.lower().split()
    same = agreeing(left, right)
    left, right = left[same:][::-1], right[same:][::-1]
    same = agreeing(left, right)
    return max(len(left), len(right)) - same <= 3


def pair(scene: Scene, kind: str, random: Random) -> Pair:
    """Return a correct caption of a scene of two things, and a hard negative of a kind."""
    while True:
        found = texts_of(scene, CHANGES[kind](scene, random), random, caption)
        if found and (has_same_words if kind.startswith("swap") else differ_in_one_place)(*found):
            return Pair(kind, *found)


def annotations(group: Scene, random: Random) -> dict[str, str]:
    """Return a test image's annotations by file extension: a line with a pair of captions of each kind (txt)."""
    scene = related(group, random)
    return {"txt": "\n".join("\t".join(pair(scene, kind, random)) for kind in CHANGES)}
