"""Read images with one class each: a .cls holds its number, classnames.txt a line per class, and
zeroshot_classification_templates.txt the prompts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flip.config.kinds.kind import Kind
from flip.formats import layout
from flip.metrics.measures import ACCURACY, undefined
from flip.metrics.names import FINETUNED, PROBE

if TYPE_CHECKING:
    import numpy as np


class Classification(Kind):
    """Measure zero-shot by prompts; a probe and fine-tuning where there is a training split."""

    name = "classification"
    endings: tuple[str, ...] = ("", f"-{PROBE}", f"-{FINETUNED}")
    has_classes = True

    def target(self, folder: Path) -> tuple[str, Callable]:
        """Return how a class is read: int. Raises ValueError without class names."""
        return "cls", partial(layout.label, classes=len(layout.class_names(folder)))

    def facts(self, folder: Path, name: str, measure: str) -> dict:
        """Check classes and prompts; return how many classes there are and, unless it is accuracy, the measure, what
        guessing gives and, for auc, the fewest images of a class.

        Raises:
            ValueError: labels, names and prompts do not belong together, or the set has no such measure.
        """
        import numpy as np  # here, as every dry run loads this module

        from flip.metrics.scoring import guessed

        names, targets = layout.class_names(folder), np.array(self.targets(folder, "test"))
        layout.prompts(folder)
        several, classes = targets.ndim == 2, len(names)
        if several:
            every_class(folder, names, targets)
        if why := undefined(measure, classes, several):
            raise ValueError(f"evaluate.measures.{name}: {folder} has no such measure: {why}")
        if measure == ACCURACY:
            return {"classes": classes}
        facts = {"classes": classes, "measure": measure}
        if (chance := guessed(measure, targets, classes)) is not None:
            facts["chance"] = chance
        return facts | ({"least": int(np.bincount(targets, minlength=2).min())} if measure == "auc" else {})


def every_class(folder: Path, names: list[str], labelled: "np.ndarray") -> None:
    """Refuse labels [images, classes] of which one has no image.

    Raises:
        ValueError: there is such a class.
    """
    present: Any = labelled.any(0)  # numpy's types allow for a single value
    if lost := [name for name, there in zip(names, present, strict=True) if not there]:
        raise ValueError(f"{folder}: no image has '{lost[0]}', so it has no average precision; take the class out")


KIND = Classification()
