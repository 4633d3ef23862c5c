"""Define the measures of classification on CLIP's and FLIP's sets, and which sets have them.

Top-1 accuracy for most; mean per class recall, 11-point mean average precision (VOC 2007), ROC-AUC (Hateful Memes) and
the mean of top-1 and top-5 (Kinetics 700) for some (Radford et al. 2021, Table 9; FLIP, Table 4). `map` is average
precision by the area below the whole curve, which clip-benchmark reports for sets of several labels. How each is
computed is flip.metrics.scoring.
"""

from dataclasses import dataclass

ACCURACY = "accuracy"
TOP = 5


@dataclass(frozen=True)
class Measure:
    """Describe a measure; `labels`: whether it is for sets whose images have several."""

    title: str
    labels: bool = False


MEASURES = {
    ACCURACY: Measure("top-1 accuracy"),
    "top1-top5": Measure(f"mean of top-1 and top-{TOP} accuracy"),
    "mean-per-class": Measure("mean per class recall"),
    "auc": Measure("area under the ROC curve"),
    "map": Measure("mean average precision", labels=True),
    "map-11": Measure("11-point mean average precision", labels=True),
}


def undefined(measure: str, classes: int, labels: bool) -> str | None:
    """Return why a set of so many classes, with several labels per image or one, has no such measure; None if it
    has."""
    allowed = ", ".join(name for name, one in MEASURES.items() if one.labels == labels)
    if MEASURES[measure].labels != labels:
        return f"{measure} is not for images with {'several labels' if labels else 'one class'}; choose {allowed}"
    if measure == "auc" and classes != 2:
        return f"auc is for 2 classes, not {classes}; choose {allowed.replace(', auc', '')}"
    if measure == "top1-top5" and classes <= TOP:
        return f"top1-top5 is for more than {TOP} classes, not {classes}; choose {allowed.replace(', top1-top5', '')}"
    return None
