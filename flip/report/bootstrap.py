"""Compute the bootstrap over test images, for many metrics at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import ESTIMATE, percent

Key = tuple[str, Any]  # a variant, and a metric or its name

# Item counts held at once: 8 MB of float64; more is not faster.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Resampled:
    """Hold the runs of a variant on one metric, or their differences between two metrics, in percent.

    Attributes:
        value: the mean over seeds.
        values: of each seed [seeds].
        resamples: of each seed on test images that were drawn anew [resamples, seeds]; the draws are the same for all
            variants, so differences are paired.
        images: how many there are in the test set.
    """

    value: float
    values: np.ndarray
    resamples: np.ndarray
    images: int

    @property
    def seeds(self) -> int:
        return len(self.values)

    @cached_property
    def mean(self) -> np.ndarray:
        """Return the means over seeds [resamples]."""
        return self.resamples.mean(axis=1)

    @cached_property
    def between(self) -> float:
        """Return the variance between seeds, percent^2."""
        return float(self.values.var(ddof=1))

    @cached_property
    def interaction(self) -> float:
        """Return how much of that variance is explained by seeds that are right on different images: between seeds, by
        how much does another draw of images move the one more than the other?"""
        return float((self.resamples - self.values).var(axis=1, ddof=1).mean())

    def __sub__(self, other: "Resampled") -> "Resampled":
        """Return the differences between two metrics of the same runs, seed by seed."""
        return Resampled(
            self.value - other.value, self.values - other.values, self.resamples - other.resamples, self.images
        )


def generator(name: str) -> np.random.Generator:
    """Return a random generator that depends on the name alone."""
    return np.random.default_rng(np.frombuffer(sha256(name.encode()).digest(), np.uint32))


def _counts(items: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield blocks [rows, items]: how often each item is drawn when `items` are drawn with replacement."""
    rows = max(1, BLOCK // items)
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn = rng.integers(0, items, (block, items)) + items * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * items).reshape(block, items).astype(float)


def resampled(
    outcomes: Mapping[Key, np.ndarray], test_set: str, resamples: int, measure: str = ACCURACY
) -> dict[Key, Resampled]:
    """Return percentages on the test images, and on as many drawn from them with replacement.

    Args:
        outcomes: (variant, metric) -> [seeds, items, ...], what `measure` keeps of each item, for accuracy 1 for a
            correct one and 0 for a wrong one, or what `by_image` makes of several; the items are the images of one test
            set, so a resample draws the same ones for all.
        test_set: its name seeds the draw of items.
        resamples: how many.
        measure: how outcomes become a number (flip.metrics.measures).
    """
    stacked = np.concatenate(list(outcomes.values())).astype(float)
    items = stacked.shape[1]
    blocks = _counts(items, resamples, generator(f"items of {test_set}"))
    found = np.concatenate([ESTIMATE[measure](stacked, counts) for counts in blocks])
    ends = np.cumsum([len(values) for values in outcomes.values()])
    return {
        key: Resampled(
            percent(measure, values), np.array([percent(measure, one[None]) for one in values]), columns, items
        )
        for (key, values), columns in zip(outcomes.items(), np.split(found, ends[:-1], axis=1), strict=True)
    }
