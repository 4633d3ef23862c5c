"""Write statements about images, right or contradicted, each with a caption that decides it, too.

A wrong statement is a correct caption of another scene, which differs in one respect, or has the colours of two things
exchanged. The caption mentions that respect, and the statement contradicts it.
"""

from random import Random

from flip.synthetic.changes import elsewhere, exchanged, repainted, reshaped, texts_of, turned
from flip.synthetic.scenes import Scene

CLASSES = ("contradicted", "right")
CHANGES = (repainted, reshaped, elsewhere, turned, exchanged)


def statement(scene: Scene, random: Random) -> tuple[str, str, int]:
    """Return a caption of a scene, a statement, and the index of the statement's class (equal probability)."""
    right = random.randrange(2)
    while True:
        changed = random.choice(CHANGES)(scene, random)
        caption, claim = texts_of(scene, changed, random), texts_of(scene, changed, random)
        if caption and claim:
            return caption[0], claim[0 if right else 1], right


def annotations(scene: Scene, random: Random) -> dict[str, str]:
    """Return a test image's annotations by file extension: class (cls), and lines with caption and statement (txt)."""
    caption, claim, right = statement(scene, random)
    return {"cls": str(right), "txt": f"{caption}\n{claim}"}
