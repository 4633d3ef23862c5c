"""Write statements about images, right or contradicted, each beside a caption that settles the matter, too. A wrong
statement is a right caption of another scene, which differs in one respect, or has two things' colours exchanged. The
caption tells that respect, and the statement tells it otherwise.
"""

from random import Random

from flip.synthetic.changes import elsewhere, exchanged, repainted, reshaped, told, turned
from flip.synthetic.scenes import Scene

CLASSES = ("contradicted", "right")
CHANGES = (repainted, reshaped, elsewhere, turned, exchanged)


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
