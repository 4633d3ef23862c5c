"""Read images with several labels each: an .npy holds a 0 or 1 per class of classnames.txt."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from flip.config.kinds.classification import Classification
from flip.formats import layout


class Multilabel(Classification):
    """Measure as classification, by a measure for labels."""

    name = "multilabel"

    def target(self, folder: Path) -> tuple[str, Callable]:
        """Return how labels are read: int64 [classes], 0 or 1. Raises ValueError without class names."""
        return "npy", partial(layout.labels, classes=len(layout.class_names(folder)))


KIND = Multilabel()
