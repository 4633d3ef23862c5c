"""Laws whose truth is known: runs of several seeds on common test images, of which some are held out, and how often
prediction intervals hold these and intervals hold exponents.

python -m tests.simulated_laws 300        coverage of each of CASES, from so many reports, form given and chosen
"""

import sys
from dataclasses import dataclass, replace
from math import log

import numpy as np
from scipy.special import logit

from flip.report.intervals import PERCENT, Estimates, both
from flip.report.laws import FORMS, FittedLaw, LawCurve, LawForm, LawPoint, choose, fit
from tests.simulated_reports import SimulatedReport

POWER, ODDS, POWER_FLOOR, ODDS_FLOOR = FORMS
LABELS = ("mask 0%", "mask 50%")
LATER = 0.3  # by how much compute the second law is behind the first, in logarithms
HELD = (2.0, 0.35)  # compute of the runs that are held out; the largest fitted one is 1: beyond these, and among them


@dataclass(frozen=True)
class SimulatedLaws:
    """Two laws of one form, each of `runs` runs that are spread evenly from a sixteenth of the compute to all of it.
    `misfit` is by how many points each run is off the form, whatever its seeds."""

    form: LawForm
    parameters: tuple[float, ...]
    spread: float = 2.0
    runs: int = 5
    seeds: int = 3
    images: int = 1500
    misfit: float = 0.0

    @property
    def compute(self) -> list[float]:
        return [*np.geomspace(1 / 16, 1, self.runs).tolist(), *HELD]

    def shares(self, rng: np.random.Generator) -> list[float]:
        """Accuracies expected of the runs of both laws, from 0 to 1."""
        x = np.log([self.compute, self.compute]) - np.array([[0.0], [LATER]])
        off = self.misfit * rng.normal(size=x.shape)
        return (1 - (self.form.error(x, *self.parameters) + off) / PERCENT).clip(0.001, 0.999).ravel().tolist()

    def curves(self, found: Estimates) -> list[LawCurve]:
        errors = [both(lambda value: PERCENT - value, one) for one in found.values()]
        laws = []
        for label, part in zip(LABELS, np.split(np.arange(len(errors)), 2), strict=True):
            runs = [
                LawPoint(f"{label} {compute:g}", compute, compute, errors[row], self.seeds, True)
                for row, compute in zip(part, self.compute, strict=True)
            ]
            laws.append(LawCurve(label, 1.0, runs[: self.runs], runs[self.runs :]))
        return laws

    def laws(self, number: int, chosen: bool) -> list[FittedLaw]:
        """Draw one report, by its number, and fit its laws."""
        rng = np.random.default_rng(number)
        report = SimulatedReport(tuple(self.shares(rng)), self.spread, self.seeds, self.images, alike=True)
        found = report.estimated(number)
        curves = self.curves(found)
        return fit(curves, choose(curves)[0] if chosen else self.form, found.spread("m"))

    def coverage(self, reports: int, chosen: bool) -> tuple[float, float, float]:
        """How often 95% intervals hold the held-out run beyond the fitted ones, the one among them, and the exponent
        (of laws of the true form), in percent."""
        held, exponents = [], []
        for number in range(reports):
            for law in self.laws(number, chosen):
                held.append([holds(law, point) for point in law.curve.held])
                if law.form == self.form:
                    low, high = law.exponent.interval(0.95)
                    exponents.append(low <= self.parameters[1] <= high)
        beyond, among = 100 * np.mean(held, axis=0)
        return float(beyond), float(among), 100 * float(np.mean(exponents))


def holds(law: FittedLaw, point: LawPoint) -> bool:
    low, high = law.predict(point.flops, point.seeds).interval(0.95)
    return low <= point.error.value <= high


# Errors of 80 to 14, 78 to 9 and 76 to 14 % from a sixteenth of the compute to twice of it.
POWER_LAW = SimulatedLaws(POWER, (log(0.2), 0.5))
ODDS_LAW = SimulatedLaws(ODDS, (-1.6, 1.0))
ODDS_ABOVE = SimulatedLaws(ODDS_FLOOR, (-2.6, 1.4, logit(0.12)))
CASES = {
    f"{name}, {runs} runs, spread {spread:g}": replace(case, runs=runs, spread=spread)
    for name, case in {
        "power law": POWER_LAW,
        "of the odds": ODDS_LAW,
        "of the odds, irreducible": ODDS_ABOVE,
    }.items()
    for runs, spread in ((5, 1.0), (5, 3.0), (7, 2.0))
} | {
    "of the odds, 5 runs, spread 2, one seed": replace(ODDS_LAW, seeds=1),
    "of the odds, 5 runs, spread 2, off by 3": replace(ODDS_LAW, misfit=3.0),
}

if __name__ == "__main__":
    for name, case in CASES.items():
        for chosen in (False, True):
            beyond, among, exponent = case.coverage(int(sys.argv[1]), chosen)
            which = "chosen" if chosen else "given"
            print(f"{name:42} {which:7} beyond {beyond:5.1f}%   among {among:5.1f}%   b {exponent:5.1f}%", flush=True)
