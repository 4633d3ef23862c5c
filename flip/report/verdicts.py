"""Decide what a difference between two rows says beside the paper's."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flip.report.bootstrap import Key
from flip.report.intervals import Estimate

REPRODUCED, OTHER_SIZE, UNDECIDED, CONTRADICTED = VERDICTS = (
    "reproduced",
    "same direction, other size",
    "undecided",
    "contradicted",
)
ONE_RUN = "one run"
DEFINITIONS = {
    REPRODUCED: "our interval of the difference overlaps the paper's.",
    OTHER_SIZE: "the intervals do not overlap; our difference is not 0 and has the paper's sign.",
    CONTRADICTED: "the intervals do not overlap; our difference is not 0 and does not have the paper's sign.",
    UNDECIDED: "the intervals do not overlap, but our difference may be 0.",
    ONE_RUN: "the row, or the one it is compared with, was trained with one seed. Intervals are then over test images "
    "only. The variation over training runs is unknown, so there is no verdict.",
}

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Contrast:
    """Hold a number's difference from its reference beside the paper's, in percentage points.

    Attributes:
        reference: (variant, metric) that the number is compared with.
        difference: ours.
        one_run: whether either is of a single seed.
        paper: the paper's difference; None: it gives none.
        noise: half the width of the interval around it.
    """

    reference: Key
    difference: Estimate
    one_run: bool
    paper: float | None
    noise: float | None

    def verdict(self, confidence: float, significant: bool) -> str | None:
        """Return one of DEFINITIONS; None where the paper has no such difference."""
        if self.one_run:
            return ONE_RUN
        if self.paper is None or self.noise is None:
            return None
        low, high = self.difference.interval(confidence)
        if low <= self.paper + self.noise and high >= self.paper - self.noise:
            return REPRODUCED
        if not significant:
            return UNDECIDED
        return OTHER_SIZE if self.difference.value * self.paper > 0 else CONTRADICTED


def holm(p_values: Mapping[Name, float], level: float) -> set[Name]:
    """Return the hypotheses that are rejected, with a probability of at most `level` that any of them is true (Holm
    1979): the smallest p-value is compared with level / count, the next one with level / (count - 1), ..."""
    rejected: set[Name] = set()
    for name in sorted(p_values, key=p_values.__getitem__):
        if p_values[name] * (len(p_values) - len(rejected)) > level:
            break
        rejected.add(name)
    return rejected
