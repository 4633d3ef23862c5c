"""Read images with a statement each, right or contradicted, and a caption that settles the matter, too: a .cls holds
the class (0: contradicted), a .txt caption and statement in two lines.

So one question is asked of images and of words: does a statement follow from an image, as in SNLI-VE (Xie et al. 2019,
arXiv 1901.06706), and does it agree with a caption of that image, as in SNLI (Bowman et al. 2015)?
"""

from pathlib import Path

from flip.config.kinds.classification import Classification
from flip.formats import layout
from flip.formats.contents import contents


def texts(tars: list[Path]) -> list[list[str]]:
    """Read caption and statement of each image of a set, in the order of the tars.

    Raises:
        ValueError: an image without the two.
    """
    found = []
    for tar in tars:
        for key, content in contents(tar, "txt"):
            where = f"{tar}: {key}.txt"
            found.append([line for line in layout.lines(content.get("txt", b""), where) if line.strip()])
            if len(found[-1]) != 2:
                raise ValueError(
                    f"{where} has {len(found[-1])} lines; it needs two, a caption of the image and a statement about it"
                )
    return found


class Entailment(Classification):
    """Measure by a probe which statements are right: of the image, and of the caption."""

    name = "entailment"
    endings = ("-image", "-text")
    has_classes = False  # no prompts name them

    def facts(self, folder: Path, name: str, measure: str) -> dict:
        """Check classes and texts of the test split. Raises ValueError as the checks do."""
        found = super().facts(folder, name, measure)
        texts(layout.tars(folder))
        return found

    def training_samples(self, folder: Path) -> int:
        """Check classes and texts of the training split, and count them. Raises ValueError as the checks do."""
        texts(layout.tars(folder, "train"))
        return super().training_samples(folder)


KIND = Entailment()
