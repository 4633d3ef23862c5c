"""Reports whose truth is known: accuracies expected over training runs and images, and how often intervals hold them.

python -m tests.simulated_reports 1000        prints the coverage of each of CASES, from so many reports
"""

import sys
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtri

from flip.report.intervals import Estimates, estimates

RESAMPLES = 300


@dataclass(frozen=True)
class SimulatedReport:
    """Rows of expected accuracies `shares`; how right a run is varies with a standard deviation of `spread` points at
    50%, and in proportion to that of a coin at other shares, or alike at all if `alike`. Half of what makes an image
    hard is common to all runs. Runs are Beta distributed."""

    shares: tuple[float, ...]
    spread: float
    seeds: int = 3
    images: int = 1500
    alike: bool = False

    def runs(self, rng: np.random.Generator, share: float) -> np.ndarray:
        """Expected accuracies of training runs [seeds]."""
        if not self.spread:
            return np.full(self.seeds, share)
        width = self.spread / 100 * (1 if self.alike else 2 * (share * (1 - share)) ** 0.5)
        size = share * (1 - share) / width**2 - 1
        return rng.beta(share * size, (1 - share) * size, self.seeds).clip(1e-9, 1 - 1e-9)

    def outcomes(self, rng: np.random.Generator) -> dict[tuple[str, str], np.ndarray]:
        hard, found = rng.normal(size=self.images), {}
        for row, share in enumerate(self.shares):
            own = rng.normal(size=(self.seeds, self.images))
            skill = ndtri(self.runs(rng, share))[:, None]
            found[str(row), "m"] = (skill > (hard + own) / 2**0.5).astype(np.float32)
        return found

    def estimated(self, number: int) -> Estimates:
        """Draw one report, by its number."""
        return estimates(self.outcomes(np.random.default_rng(number)), f"set {number}", RESAMPLES)

    def coverage(self, reports: int) -> tuple[float, float]:
        """How often 95% intervals hold the truth: of values, and of all differences, in percent."""
        values, differences = [], []
        for number in range(reports):
            found = self.estimated(number)
            truth = {(str(row), "m"): 100 * share for row, share in enumerate(self.shares)}
            values += [holds(found[key], truth[key]) for key in found]
            pairs = combinations(found, 2)
            differences += [holds(found.difference(a, b), truth[a] - truth[b]) for a, b in pairs]
        return 100 * float(np.mean(values)), 100 * float(np.mean(differences))


def holds(estimate, truth):
    low, high = estimate.interval(0.95)
    return low <= truth <= high


SIX, MIXED = (0.3, 0.4, 0.45, 0.5, 0.6, 0.7), (0.05, 0.05, 0.5, 0.5, 0.95, 0.95)
CASES = {
    f"{name}, spread {spread}": SimulatedReport(shares, spread)
    for name, shares in {
        "six rows": SIX,
        "two rows": (0.5, 0.5),
        "three rows": (0.4, 0.5, 0.6),
        "four rows at 5%": (0.05,) * 4,
        "four rows at 95%": (0.95,) * 4,
        "rows at 5, 50, 95%": MIXED,
    }.items()
    for spread in (0, 1.25, 3.4)
} | {
    "six rows, spread 3.4, 100 images": SimulatedReport(SIX, 3.4, images=100),
    "six rows, spread 3.4, 2 seeds": SimulatedReport(SIX, 3.4, seeds=2),
    "four rows at 5%, spread 3.4 points": SimulatedReport((0.05,) * 4, 3.4, alike=True),
    "rows at 5, 50, 95%, spread 1.25 points": SimulatedReport(MIXED, 1.25, alike=True),
    "rows at 5, 50, 95%, spread 3.4 points": SimulatedReport(MIXED, 3.4, alike=True),
}

if __name__ == "__main__":
    for name, case in CASES.items():
        values, differences = case.coverage(int(sys.argv[1]))
        print(f"{name:42} values {values:5.1f}%   differences {differences:5.1f}%", flush=True)
