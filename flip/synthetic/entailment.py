"""Statements about pictures, right or contradicted, each beside a caption that settles the matter, too.

So one question is asked of pictures and of words: does a statement follow from a picture, as in SNLI-VE (Xie et al.
2019, arXiv 1901.06706), and does it agree with a caption of that picture, as in SNLI (Bowman et al. 2015)? A wrong
statement is a right caption of another scene, which differs in one respect, or has two things' colours exchanged. The
caption tells that respect, and the statement tells it otherwise.
"""

from pathlib import Path
from random import Random

from flip.synthetic.changes import elsewhere, exchanged, repainted, reshaped, told, turned
from flip.synthetic.scenes import Scene
from flip.testsets.contents import contents
from flip.testsets.layout import lines

KIND = "entailment"
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


def texts(tars: list[Path]) -> list[list[str]]:
    """Caption and statement of each picture of a set, in the order of the tars.

    Raises:
        ValueError: a picture without the two.
    """
    found = []
    for tar in tars:
        for key, content in contents(tar, "txt"):
            where = f"{tar}: {key}.txt"
            found.append([line for line in lines(content.get("txt", b""), where) if line.strip()])
            if len(found[-1]) != 2:
                raise ValueError(
                    f"{where} has {len(found[-1])} lines; it needs two, a caption of the picture and a statement about "
                    "it"
                )
    return found
