"""Estimate percentages and their differences with intervals over training runs and test images.

The value of a run is a sum of random effects: of its seed, of the test images, and of both together (which images this
seed is right on: their interaction). The squared standard error of a mean over seeds, or of a difference of two, is

    images + (between - interaction) / seeds

`images` is the variance of the bootstrap over test images (paired, of a difference), in which the interaction is once
already; `between` is the variance between seeds, and `interaction` the part of it that the bootstrap explains. The last
two are means over all rows of a report that have the metric, as in an analysis of variance (Searle, Casella, McCulloch
1992): three seeds of one row tell little. Intervals are Student's t with Satterthwaite's (1946) degrees of freedom.
tests/simulated_reports.py measures how often they hold the truth.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from flip.metrics.measures import ACCURACY
from flip.report.bootstrap import Key, Resampled, generator, resampled

PERCENT = 100.0


@dataclass(frozen=True)
class Spread:
    """Hold how much the seeds of a metric differ, pooled over rows: variances in percent^2.

    Attributes:
        between: between the seeds of a row.
        interaction: what of that is explained by which test images there are.
        freedom: degrees of freedom: the sum over rows of seeds - 1.
    """

    between: float
    interaction: float
    freedom: int


def spread(rows: Iterable[Resampled]) -> Spread:
    """Pool the spread of seeds over those rows that have several."""
    known = [row for row in rows if row.seeds > 1]
    if not known:
        return Spread(0.0, 0.0, 0)
    weights = [row.seeds - 1 for row in known]
    between, interaction = np.average([[row.between, row.interaction] for row in known], axis=0, weights=weights)
    return Spread(float(between), float(interaction), sum(weights))


@dataclass(frozen=True)
class Estimate:
    """Hold a value and its resamples [resamples], in percent.

    Attributes:
        error: its standard error over seeds and test images; None where resamples are all that is known: of a single
            seed (then over test images alone), or of what was computed from other estimates.
        freedom: degrees of freedom of the error.
        bounds: what no interval exceeds.
    """

    value: float
    resampled: np.ndarray
    error: float | None = None
    freedom: float = np.inf
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the ends of an interval of that confidence: by Student's t, or percentiles of the resamples."""
        tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
        if self.error is None:
            ends = np.quantile(self.resampled, tails)
        else:
            ends = self.value + stdtrit(self.freedom, tails) * self.error
        low, high = np.clip(ends, *self.bounds)
        return float(low), float(high)

    @property
    def p_value(self) -> float:
        """Return the two-sided probability of a value as far from 0 if the truth is 0."""
        assert self.error is not None, "a single seed tells nothing of other training runs"
        if self.error == 0:
            return float(self.value == 0)
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error))


def both(function: Callable[..., Any], *estimates: Estimate) -> Estimate:
    """Apply a function to values, and to their resamples."""
    return Estimate(float(function(*(e.value for e in estimates))), function(*(e.resampled for e in estimates)))


def error(images: np.ndarray, runs: list[Resampled], pooled: Spread) -> tuple[float, float]:
    """Return the standard error of a mean over seeds, or of a difference of two, and its degrees of freedom.

    Args:
        images: the mean or difference on resamples of the test images [resamples].
        runs: what it is computed from, one or two; their seeds are independent.
        pooled: the spread of their metric.
    """
    sampling, ends = float(images.var(ddof=1)), sum(1 / one.seeds for one in runs)
    if pooled.between >= pooled.interaction:
        seeds = pooled.between * ends
        variance = sampling + (pooled.between - pooled.interaction) * ends
    else:  # by chance; a row's own interaction, so that what is left is not below 0
        interaction = sum(one.interaction / one.seeds for one in runs)
        seeds = interaction * pooled.between / pooled.interaction
        variance = max(sampling - interaction, 0) + seeds
    doubt = sampling**2 / max(runs[0].images - 1, 1) + seeds**2 / max(pooled.freedom, 1)
    return variance**0.5, (variance**2 / doubt if doubt else np.inf)


class Estimates(dict[Key, Estimate]):
    """Give the estimate of each (variant, metric), and their differences; `runs` are all that share a report."""

    def __init__(self, runs: Mapping[Key, Resampled]):
        self.runs = runs
        self.spread = cache(self._spread)
        super().__init__({key: self._value(key) for key in runs})

    def _spread(self, metric: Any, other: Any = None) -> Spread:
        """Return that of a metric, or of its difference from another in the same row."""
        rows = [(variant, run) for (variant, found), run in self.runs.items() if found == metric]
        if other is None:
            return spread(run for _, run in rows)
        return spread(run - self.runs[variant, other] for variant, run in rows if (variant, other) in self.runs)

    def _value(self, key: Key) -> Estimate:
        run, pooled = self.runs[key], self.spread(key[1])
        # Scores like CIDEr's are no percentages: resamples of them exceed 100.
        bounds = (0.0, PERCENT if run.resamples.max() <= PERCENT else np.inf)
        if run.seeds == 1:
            return Estimate(run.value, run.mean, bounds=bounds)
        standard, freedom = error(run.mean, [run], pooled)
        between = (max(pooled.between - pooled.interaction, 0) / run.seeds) ** 0.5
        drawn = generator(f"seeds of {key[0]}, {key[1]}").standard_t(max(pooled.freedom, 1), len(run.mean))
        return Estimate(run.value, run.mean + between * drawn, standard, freedom, bounds)

    def single(self, *keys: Key) -> bool:
        """Return whether any of some numbers is of one training run."""
        return any(self.runs[key].seeds == 1 for key in keys)

    def difference(self, key: Key, other: Key) -> Estimate:
        """Return how much a number exceeds another: paired by test images, and in one row by seeds, too."""
        (variant, metric), one, two = key, self.runs[key], self.runs[other]
        images, value = one.mean - two.mean, one.value - two.value
        if self.single(key, other):
            return Estimate(value, images)
        if variant == other[0]:
            standard, freedom = error(images, [one - two], self.spread(metric, other[1]))
        else:
            standard, freedom = error(images, [one, two], self.spread(metric))
        return Estimate(value, images, standard, freedom, (-self[other].bounds[1], self[key].bounds[1]))


def estimates(outcomes: Mapping[Key, np.ndarray], test_set: str, resamples: int, measure: str = ACCURACY) -> Estimates:
    """Return the estimates of outcomes (variant, metric) -> [seeds, items, ...] on one test set; see `resampled`."""
    return Estimates(resampled(outcomes, test_set, resamples, measure))
