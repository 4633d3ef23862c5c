"""Fit how the error of a model falls with compute, and predict runs that were not fitted.

    error = c + (100 - c) x share(a x (compute / reference)^-b)      in percent

A form says what falls as a power of compute: the error itself (share(z) = z), as Cherti et al. (2022, arXiv 2212.07143)
fit to CLIP, or its odds (share(z) = z / (1 + z)), which stay below 100 %; and whether a part c is irreducible. All laws
of a report have one form: the simplest whose mean squared error in leaving one fitted run out is within one standard
error of the best one's (Breiman, Friedman, Olshen, Stone 1984, section 3.4.3). Held-out runs have no say in it.

Laws are fitted by least squares in points, a run weighted by its seeds. What a run is off by chance is the spread of
its seeds on these test images, pooled over the report (flip.report.intervals), over its seeds. Where residuals are
larger than that, the form does not fit, and all variances grow by Birge's ratio (1932), the squared residuals over what
chance explains, whose degrees of freedom are then those of the intervals. tests/simulated_laws.py measures how often
the intervals hold held-out runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import curve_fit
from scipy.special import expit, logit

from flip.report.bootstrap import generator
from flip.report.intervals import PERCENT, Estimate, Spread

LIMIT = 7.0  # of logarithms of ratios: a thousand times more or less is as good as never
TINY = 1e-3  # how near to 0 and 1 a share may be where a fit begins


@dataclass(frozen=True)
class LawForm:
    """Say what falls as a power of compute. Its parameters are log a, b and, if a part of the error is irreducible,
    logit(c / 100), so that c stays between 0 and 100 %."""

    name: str
    odds: bool
    irreducible: bool

    @property
    def parameters(self) -> int:
        return 3 if self.irreducible else 2

    def share(self, power: np.ndarray) -> np.ndarray:
        """Return share(z) of log z, [points]."""
        return expit(power) if self.odds else np.exp(np.minimum(power, LIMIT))

    def error(self, x: np.ndarray, log_a: float, b: float, floor: float = -np.inf) -> np.ndarray:
        """Return the error in percent at x [points], the logarithm of compute / reference."""
        c = PERCENT * expit(floor)
        return c + (PERCENT - c) * self.share(log_a - b * x)

    def gradient(self, x: np.ndarray, log_a: float, b: float, floor: float = -np.inf) -> np.ndarray:
        """Return the derivatives of `error` by the parameters [points, parameters]."""
        share, c = self.share(log_a - b * x), PERCENT * expit(floor)
        slope = (PERCENT - c) * (share * (1 - share) if self.odds else share)
        by_floor = [(1 - share) * c * (1 - c / PERCENT)] if self.irreducible else []
        return np.stack([slope, -slope * x, *by_floor], axis=-1)

    def inverse(
        self, error: np.ndarray, log_a: np.ndarray, b: np.ndarray, floor: float | np.ndarray = -np.inf
    ) -> np.ndarray:
        """Return x where the law has an error in percent [...]; infinite where it never has."""
        c = PERCENT * expit(floor)
        share = (error - c) / (PERCENT - c)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (log_a - (logit(share) if self.odds else np.log(share))) / b
        return np.where((b > 0) & (share > 0), found, np.inf)

    def begin(self, x: np.ndarray, errors: np.ndarray) -> list[float]:
        """Return parameters to begin a fit of [points] with: a straight line through logarithms, above half of the
        least error."""
        c = errors.min() / 2 if self.irreducible else 0.0
        share = np.clip((errors - c) / (PERCENT - c), TINY, 1 - TINY)
        slope, level = np.polyfit(x, logit(share) if self.odds else np.log(share), 1)
        return [level, -slope, *([logit(np.clip(c / PERCENT, TINY, 1 - TINY))] if self.irreducible else [])]

    def fit(self, x: np.ndarray, errors: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Return the parameters [parameters] of least squares in points; x, errors and seeds are [points].

        Raises:
            RuntimeError: none are found.
        """
        return curve_fit(self.error, x, errors, self.begin(x, errors), seeds**-0.5, jac=self.gradient)[0]


FORMS = (  # the simplest first
    LawForm("power law", odds=False, irreducible=False),
    LawForm("power law of the odds", odds=True, irreducible=False),
    LawForm("power law above an irreducible error", odds=False, irreducible=True),
    LawForm("power law of the odds above an irreducible error", odds=True, irreducible=True),
)


@dataclass(frozen=True)
class LawPoint:
    """Hold one run: its compute in FLOPs, its time over that of the first law's first run, its error in percent and on
    how many seeds."""

    variant: str
    flops: float
    time: float
    error: Estimate
    seeds: int
    alike: bool  # as large a model as the first fitted one

    @property
    def one_run(self) -> bool:
        return self.seeds == 1


@dataclass(frozen=True)
class LawCurve:
    """Hold the runs of a law: those that it is fitted to, and those that it is compared with; x is the logarithm of
    compute over the reference."""

    label: str
    reference: float
    fitted: list[LawPoint]
    held: list[LawPoint]

    @property
    def one_run(self) -> bool:
        """Return whether a fitted run is of one seed."""
        return any(point.one_run for point in self.fitted)

    @property
    def one_model(self) -> list[LawPoint]:
        """Return the runs of one model, least compute first."""
        return sorted((one for one in (*self.fitted, *self.held) if one.alike), key=lambda one: one.flops)

    @cached_property
    def x(self) -> np.ndarray:
        return np.log([point.flops / self.reference for point in self.fitted])

    @cached_property
    def errors(self) -> np.ndarray:
        return np.array([point.error.value for point in self.fitted])

    @cached_property
    def seeds(self) -> np.ndarray:
        return np.array([point.seeds for point in self.fitted], float)


def left_out(form: LawForm, curve: LawCurve) -> np.ndarray:
    """Return the squared error, points^2, of each fitted run [runs] as the law of the others predicts it; infinite
    where there is none."""
    found = np.full(len(curve.x), np.inf)
    for run in range(len(found)):
        rest = np.arange(len(found)) != run
        try:
            law = form.fit(curve.x[rest], curve.errors[rest], curve.seeds[rest])
        except RuntimeError:
            continue
        found[run] = float(form.error(curve.x[run], *law) - curve.errors[run]) ** 2
    return found


def choose(curves: Sequence[LawCurve]) -> tuple[LawForm, dict[str, float]]:
    """Return the form of all laws, and the root mean squared error in points of each in leaving one run out."""
    found = {form: np.concatenate([left_out(form, curve) for curve in curves]) for form in FORMS}
    best = min(found.values(), key=np.mean)
    limit = best.mean() + best.std(ddof=1) / len(best) ** 0.5 if np.isfinite(best).all() else np.inf
    good = [form for form, squares in found.items() if squares.mean() <= limit]
    fewest = min(form.parameters for form in good)
    form = min((one for one in good if one.parameters == fewest), key=lambda one: found[one].mean())
    return form, {one.name: float(squares.mean() ** 0.5) for one, squares in found.items()}


@dataclass(frozen=True)
class LawNoise:
    """Hold by how much a run of one seed is off its law.

    Attributes:
        seeds: variance between seeds on the same test images, points^2; 0 where no row of the report has several.
        ratio: Birge's ratio, at least 1: variance of residuals over that; where that is not known, their variance.
        freedom: degrees of freedom.
    """

    seeds: float
    ratio: float
    freedom: float

    @property
    def variance(self) -> float:
        """Return that of a run of one seed, points^2."""
        return self.ratio * (self.seeds or 1.0)

    @property
    def misfit(self) -> float:
        """Return the part of it that seeds do not explain."""
        return self.variance - self.seeds


def noise(residuals: np.ndarray, freedom: int, spread: Spread) -> LawNoise:
    """Return the noise of laws.

    Args:
        residuals: of all fitted runs, each times the root of its seeds, points [runs].
        freedom: runs - parameters, of all laws.
        spread: between seeds, pooled over the report.
    """
    ratio = float((residuals**2).sum()) / freedom
    if not spread.between:
        return LawNoise(0.0, ratio, freedom)
    ratio /= spread.between
    return LawNoise(spread.between, ratio, freedom) if ratio > 1 else LawNoise(spread.between, 1.0, spread.freedom)


@dataclass(frozen=True)
class FittedLaw:
    """Hold the law of a curve.

    Attributes:
        parameters: of the form [parameters].
        noise: of all laws of the report.
    """

    curve: LawCurve
    form: LawForm
    parameters: np.ndarray
    noise: LawNoise

    @property
    def label(self) -> str:
        return self.curve.label

    @cached_property
    def gradient(self) -> np.ndarray:
        return self.form.gradient(self.curve.x, *self.parameters)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Return that of the parameters, [parameters, parameters], of runs of one seed whose variance is 1."""
        return np.linalg.pinv(self.gradient.T * self.curve.seeds @ self.gradient)

    def predict(self, flops: float, seeds: int) -> Estimate:
        """Return the error of a new run, the mean of its seeds on these test images, at a compute in FLOPs.

        Which images these are moves fitted and new runs alike, so it is in no prediction's interval; that seeds are
        right on different ones is in their spread.
        """
        x = np.log(flops / self.curve.reference)
        value, slope = float(self.form.error(x, *self.parameters)), self.form.gradient(x, *self.parameters)
        variance = self.noise.variance * float(1 / seeds + slope @ self.covariance @ slope)
        return Estimate(value, np.array([value]), variance**0.5, self.noise.freedom, (0.0, PERCENT))

    @cached_property
    def resampled(self) -> np.ndarray:
        """Return the parameters [parameters, resamples] on other test images, of other seeds, and of runs that are off
        the form otherwise: to first order, as a fit follows its runs."""
        curve, rng = self.curve, generator(f"misfit of {self.label}")
        moved = np.array([point.error.resampled for point in curve.fitted]) - curve.errors[:, None]
        scale = (self.noise.freedom / rng.chisquare(self.noise.freedom, moved.shape[1])) ** 0.5
        width = (self.noise.misfit / curve.seeds) ** 0.5
        moved += width[:, None] * rng.normal(size=moved.shape) * scale
        return self.parameters[:, None] + self.covariance @ (self.gradient.T * curve.seeds) @ moved

    @property
    def exponent(self) -> Estimate:
        """Return b, for other test images, too."""
        return Estimate(float(self.parameters[1]), self.resampled[1])

    @property
    def irreducible(self) -> Estimate | None:
        """Return c in percent; None if the form has none."""
        if not self.form.irreducible:
            return None
        return Estimate(PERCENT * float(expit(self.parameters[2])), PERCENT * expit(self.resampled[2]))

    def saving(self, flops: float, error: Estimate) -> Estimate:
        """Return `flops` over the compute at which the law reaches an error; 0 if it never does."""

        def times(error: float | np.ndarray, parameters: np.ndarray) -> np.ndarray:
            more = np.log(flops / self.curve.reference) - self.form.inverse(np.asarray(error), *parameters)
            return np.where(np.isfinite(more), np.exp(np.clip(more, -LIMIT, LIMIT)), 0)

        return Estimate(float(times(error.value, self.parameters)), times(error.resampled, self.resampled))


def fit(curves: Sequence[LawCurve], form: LawForm, spread: Spread) -> list[FittedLaw]:
    """Return the laws of a report's curves.

    Raises:
        RuntimeError: a curve has no such law.
    """
    found = [form.fit(one.x, one.errors, one.seeds) for one in curves]
    pairs = list(zip(curves, found, strict=True))
    residuals = [(one.errors - form.error(one.x, *law)) * one.seeds**0.5 for one, law in pairs]
    freedom = sum(len(one.x) - form.parameters for one in curves)
    shared = noise(np.concatenate(residuals), freedom, spread)
    return [FittedLaw(one, form, law, shared) for one, law in pairs]
