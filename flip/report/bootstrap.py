"""Compute the percentile bootstrap over test images and seeds, for many metrics at once."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

import numpy as np

from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import ESTIMATE, percent

Key = TypeVar("Key", bound=Hashable)  # a metric, or its name

# Item counts held at once: 8 MB of float64; more is not faster.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """Hold a value and its resamples [resamples]; the difference of two is paired."""

    value: float
    resampled: np.ndarray

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.resampled - other.resampled)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the percentile interval that holds `confidence` of the resamples."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.resampled, [tail, 1 - tail])
        return float(low), float(high)


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


def estimates(
    outcomes: Mapping[tuple[str, Key], np.ndarray], test_set: str, resamples: int, measure: str = ACCURACY
) -> dict[tuple[str, Key], Estimate]:
    """Return percentages with their resamples.

    Args:
        outcomes: (variant, metric) -> [seeds, items, ...], what `measure` keeps of each item, for accuracy 1 for a
            correct one and 0 for a wrong one, or what `by_image` makes of several; the items are the images of one test
            set, so a resample draws the same ones for all: differences are paired.
        test_set: its name seeds the draw of items; a variant's name seeds the draw of its seeds.
        resamples: how many.
        measure: how outcomes become a number (flip.metrics.measures).

    Returns:
        (variant, metric) -> Estimate in percent.
    """
    stacked = np.concatenate(list(outcomes.values())).astype(float)
    items = stacked.shape[1]
    blocks = _counts(items, resamples, generator(f"items of {test_set}"))
    found = np.concatenate([ESTIMATE[measure](stacked, counts) for counts in blocks])
    result, column = {}, 0
    for (variant, metric), values in outcomes.items():
        seeds = len(values)
        weights = generator(f"seeds of {variant}").multinomial(seeds, [1 / seeds] * seeds, resamples) / seeds
        resampled = (found[:, column : column + seeds] * weights).sum(1)
        result[variant, metric] = Estimate(percent(measure, values), resampled)
        column += seeds
    return result
