"""Read images with pairs of captions, one right and one wrong in how its words go together, or in one of them.

As in SugarCrepe (Hsieh et al. 2023, arXiv 2306.14610), ARO (Yuksekgonul et al. 2023, arXiv 2210.01936) and Winoground
(Thrush et al. 2022, arXiv 2204.03162). Beside each image, a .txt has one line per pair: its kind, the right caption and
the wrong one, with tabs between them.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flip.config.kinds.kind import Kind
from flip.formats.contents import contents, encoded_image
from flip.formats.layout import lines, tars
from flip.metrics.sets import PAIRS

CHANCE = 50.0  # percent


class Pair(NamedTuple):
    kind: str
    right: str
    wrong: str


def samples(tar: Path) -> Iterator[tuple[bytes, list[Pair]]]:
    """Give each image, encoded, with its pairs, in the order of the tar.

    Raises:
        ValueError: no image, no pair, or a line that is none.
    """
    for key, content in contents(tar):
        where = f"{tar}: {key}"
        image = encoded_image(content, where)
        found = [line for line in lines(content.get("txt", b""), f"{where}.txt") if line.strip()]
        parts = [[part.strip() for part in line.split("\t")] for line in found]
        if not parts or not all(len(one) == 3 and all(one) for one in parts):
            raise ValueError(
                f"{where} needs an image and a .txt of one line per pair: kind, right caption and wrong caption, with "
                "tabs between them"
            )
        yield image, [Pair(*one) for one in parts]


def counted(tars: list[Path]) -> dict[str, int]:
    """Count the pairs of each kind of a set.

    Raises:
        ValueError: as `samples`, or two captions that are the same.
    """
    found: Counter[str] = Counter()
    for tar in tars:
        for _, pairs in samples(tar):
            for one in pairs:
                if one.right == one.wrong:
                    raise ValueError(f"{tar}: '{one.right}' is both the right and the wrong caption of a {one.kind}")
                found[one.kind] += 1
    return dict(found)


class Composition(Kind):
    """Declare that of each pair, the image should be nearer to the right caption."""

    name = "composition"
    endings = tuple(f"-{pair}" for pair in PAIRS)
    is_open = True  # pairs of other kinds

    def facts(self, folder: Path, name: str, measure: str) -> dict:
        """Check the pairs; return chance, and how many there are of each kind. Raises ValueError as `counted`."""
        return {"chance": CHANCE, "pairs": counted(tars(folder))}


KIND = Composition()
