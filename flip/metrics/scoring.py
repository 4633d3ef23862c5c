"""Aggregate the outcomes of a test set to one number, for each of flip.metrics.measures.

An estimator takes what is stored of each test image, rows [rows, images, ...], and how often a resample draws each,
counts [resamples, images]; it gives percent [resamples, rows]. A class of which a resample has no image does not count.

Images are what is independent: several captions, statements or boxes of one image are drawn together. So accuracy
stores of such an image the mean of its items and how many they are (`by_image`).
"""

from collections.abc import Callable

import numpy as np

from flip.metrics.measures import ACCURACY, TOP, undefined

DRAWS = 20  # of random scores, for what guessing gives


def by_image(values: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return what is stored of values [items] where several items may be of one image, of which `owners` [items] are
    the numbers: float32 [images], or as soon as one has several, [images, 2]: the mean of its values, how many they
    are."""
    _, places, sizes = np.unique(owners, return_inverse=True, return_counts=True)
    means = np.bincount(places, values) / sizes
    return (means if (sizes == 1).all() else np.stack([means, sizes], axis=1)).astype(np.float32)


def _weighted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means of images [..., images], and their weights, 1 on average, of such rows with sizes [..., images,
    2]."""
    means, sizes = np.moveaxis(rows, -1, 0)
    return means, sizes / sizes.mean(axis=-1, keepdims=True)


def _mean(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if rows.ndim == 2:
        return counts @ rows.T * (100 / rows.shape[1])
    means, weights = _weighted(rows)
    return counts @ (means * weights).T * (100 / rows.shape[1]) / (counts @ weights.T / rows.shape[1])


def _one_by_one(estimate: Callable) -> Callable:
    """Return an estimator made of one for a single row, which gives shares [resamples]."""
    return lambda rows, counts: np.stack([100 * estimate(row, counts) for row in rows], axis=1)


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Return the indices at which a new value begins in a sorted array."""
    return np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _recall(row: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the mean over classes of the share of right items (mean per class recall); row [items, 2]: right or not,
    class."""
    right, label = row.T
    order = np.argsort(label, kind="stable")
    starts, drawn = _starts(label[order]), counts[:, order]
    total = np.add.reduceat(drawn, starts, axis=1)
    hits = np.add.reduceat(drawn * right[order], starts, axis=1)
    return (hits / np.maximum(total, 1)).sum(1) / (total > 0).sum(1)


def _auc(row: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute ROC-AUC: how often an item of the second class scores higher than one of the first, ties counting half;
    row [items, 2]: score, class. NaN for a resample of one class."""
    score, label = row.T
    order = np.argsort(score, kind="stable")
    starts, drawn = _starts(score[order]), counts[:, order]
    positive = np.add.reduceat(drawn * label[order], starts, axis=1)
    negative = np.add.reduceat(drawn * (1 - label[order]), starts, axis=1)
    below = negative.cumsum(1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    return np.divide((positive * below).sum(1), pairs, out=np.full(len(counts), np.nan), where=pairs > 0)


def _curve(score: np.ndarray, label: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return right items and precision [resamples, thresholds] among those that score at least a threshold, from the
    highest.

    Thresholds are the scores of right items: between them precision falls and recall stays.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.r_[_starts(score[order])[1:], len(order)] - 1
    right = np.add.reduceat(label[order], ends - np.diff(ends, prepend=-1) + 1) > 0
    drawn = counts[:, order]
    found = (drawn * label[order]).cumsum(1)[:, ends[right]]
    return found, found / np.maximum(drawn.cumsum(1)[:, ends[right]], 1)


def _area(found: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Average precision [resamples]: precision at each right item (clip-benchmark, scikit-learn)."""
    return (np.diff(found, axis=1, prepend=0) * precision).sum(1) / np.maximum(found[:, -1], 1)


def _eleven(found: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Average precision [resamples]: the highest precision at recalls of at least 0, 0.1, ... 1 (VOC 2007)."""
    total = found[:, -1:]
    return np.mean([(precision * (10 * found >= step * total)).max(1) for step in range(11)], axis=0)


def _mean_precision(average: Callable) -> Callable:
    """Return an estimator of the mean over classes of an average precision; its row is [items, 2, classes]: scores,
    labels 0 or 1."""

    def estimate(row: np.ndarray, counts: np.ndarray) -> np.ndarray:
        total, classes = np.zeros(len(counts)), np.zeros(len(counts))
        there = row[:, 1].any(axis=0)
        for score, label in np.moveaxis(row[:, :, there], 2, 0).transpose(0, 2, 1):
            found, precision = _curve(score, label, counts)
            drawn = found[:, -1] > 0
            total += np.where(drawn, average(found, precision), 0)
            classes += drawn
        return total / np.maximum(classes, 1)

    return estimate


def _ahead(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Count the classes that rank before the right one [images]: of equal ones the earlier; all, if scores are NaN, so
    that a model that gives NaN is never right."""
    own = np.take_along_axis(logits, targets[:, None], axis=1)
    later = np.arange(logits.shape[1]) >= targets[:, None]
    return (~((logits < own) | ((logits == own) & later))).sum(axis=1)


def _right(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return _ahead(logits, targets) == 0


def _top(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return 1, 0.5 if the class is among the five best and not the best, or 0."""
    ahead = _ahead(logits, targets)
    return np.mean([ahead == 0, ahead < TOP], axis=0)


def _scored(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.stack([logits[:, 1] - logits[:, 0], targets], axis=1)


def _labelled(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.stack([logits, targets], axis=1)


KEEP = {
    ACCURACY: _right,
    "top1-top5": _top,
    "mean-per-class": lambda logits, targets: np.stack([_right(logits, targets), targets], axis=1),
    "auc": _scored,
    "map": _labelled,
    "map-11": _labelled,
}
ESTIMATE = {
    ACCURACY: _mean,
    "top1-top5": _mean,
    "mean-per-class": _one_by_one(_recall),
    "auc": _one_by_one(_auc),
    "map": _one_by_one(_mean_precision(_area)),
    "map-11": _one_by_one(_mean_precision(_eleven)),
}


def kept(measure: str, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return what is stored of each item, float32 [items, ...], of its logits [items, classes] and its class [items],
    or its labels 0 or 1 [items, classes].

    Raises:
        ValueError: the measure is not defined for such a set, or ranks images by scores that are no numbers.
    """
    if why := undefined(measure, logits.shape[1], targets.ndim == 2):
        raise ValueError(f"evaluate.measures: {why}")
    if KEEP[measure] in (_scored, _labelled) and (lost := int(np.isnan(logits).any(axis=1).sum())):
        raise ValueError(f"{measure}: scores of {lost} of {len(logits)} images are not numbers, so they have no order")
    return KEEP[measure](logits, targets).astype(np.float32)


def percent(measure: str, rows: np.ndarray) -> float:
    """Compute the number of what was kept [seeds, images, ...]: the mean over seeds, in percent."""
    if ESTIMATE[measure] is _mean:
        if rows.ndim == 3:
            rows = np.prod(_weighted(rows), axis=0)
        return 100 * float(rows.mean(dtype=float))
    return float(ESTIMATE[measure](rows.astype(float), np.ones((1, rows.shape[1]))).mean())


def number(measure: str, values: np.ndarray) -> float:
    """Return percent as in metrics.json, of what was kept of one seed [images, ...]."""
    return round(percent(measure, values[None]), 4)


def guessed(measure: str, targets: np.ndarray, classes: int) -> float | None:
    """Return the value for random scores, percent; None for what follows from the number of classes alone."""
    if measure in (ACCURACY, "mean-per-class"):
        return None
    if measure == "auc":
        return 50.0
    if measure == "top1-top5":
        return 50 * (1 + TOP) / classes
    rng = np.random.default_rng(0)
    draws = [kept(measure, rng.random((len(targets), classes)), targets) for _ in range(DRAWS)]
    return round(percent(measure, np.stack(draws)), 4)
