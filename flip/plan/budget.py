"""Say which way of training is best for a number of GPU-hours, by what has been measured at a scale.

Measured are rows of its reports: accuracy, FLOPs of the whole training, seeds. Runs that differ in their schedule alone
lie on one curve. Where there are enough of them, a law is fitted (flip.report.laws); else accuracy is interpolated
between two runs, linearly in the logarithm of compute; beyond the longest of them, that one stands for itself.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.stats import norm

from flip.config.faults import ParameterError
from flip.config.resolve import Project
from flip.config.schema import Params
from flip.config.sections.report import FITTED_RUNS
from flip.config.sweep import without
from flip.files import read_json
from flip.plan.facts import Gpu
from flip.provenance.layout import Layout
from flip.provenance.specs import PRETRAIN
from flip.report.bootstrap import generator
from flip.report.intervals import PERCENT, Estimate, Spread, both
from flip.report.labels import labels
from flip.report.laws import FittedLaw, LawCurve, LawPoint, choose, fit
from flip.train.work import changed

SCHEDULE = ("epochs", "epochs_scale", "equal_time", "base_lr", "warmup_samples", "warmup_scale")
NAMES = ("start", "image_tower.weights", "text_tower.weights")  # of variants that count by themselves
FURTHEST = 10.0  # times the most compute of its runs that a law is asked for
RESAMPLES = 2000
CLOSE = 0.01  # of a run's compute, by which it may exceed a budget: counts are rounded


@dataclass(frozen=True)
class MeasuredRun:
    """Hold a row of a table: accuracy in percent with its interval, FLOPs and GPU-hours of the whole training."""

    variant: str
    accuracy: float
    low: float
    high: float
    flops: float
    hours: float
    seeds: int

    def width(self, confidence: float) -> float:
        """Return the standard error that the interval stands for."""
        return float((self.high - self.low) / 2 / norm.ppf((1 + confidence) / 2))

    def estimate(self, confidence: float) -> Estimate:
        """Return its error, 100 % - accuracy, resampled as the interval says."""
        width = self.width(confidence)
        drawn = generator(f"budget {self.variant}").normal(PERCENT - self.accuracy, width, RESAMPLES)
        return Estimate(PERCENT - self.accuracy, drawn, bounds=(0.0, PERCENT))


@dataclass(frozen=True)
class BudgetChoice:
    """Hold what a curve promises for a budget: accuracy in percent with its interval; how often the schedule of `like`;
    by which way, from which runs, of how many seeds each."""

    like: str
    label: str
    accuracy: float
    low: float
    high: float
    schedule: float
    hours: float
    way: str
    runs: dict[str, int]


def rows(project: Project) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the rows of each table of the scale with the primary metric, by the report, the baseline first."""
    for path in sorted(Path(Layout(project.scale).tables).glob("*/tables.csv")):
        with open(path, newline="") as file:
            found = [one for one in csv.DictReader(file) if one["metric"] == project.primary_set and one["value"]]
        for table in dict.fromkeys(one["table"] for one in found):
            yield path.parent.name, [one for one in found if one["table"] == table]


class MeasuredRuns:
    """Read what has been measured at a scale, on one GPU of a kind.

    Raises:
        ParameterError: nothing has, or on different data.
    """

    def __init__(self, project: Project, gpu: Gpu, utilization: float):
        self.project, self.gpu = project, gpu
        self.rate = utilization * gpu.rate(project.baseline.train.products)
        self.confidence = project.baseline.bootstrap.confidence
        self.runs = dict(self._read())
        if not self.runs:
            raise ParameterError(
                f"--budget: no run is measured at scale '{project.scale}' ({Layout(project.scale).report('*')}/"
                f"tables.csv); `snakemake ablations --config scale={project.scale}` makes the first ones"
            )

    def _read(self) -> Iterator[tuple[str, MeasuredRun]]:
        data: dict[str, str] = {}
        for report, table in rows(self.project):
            cost, first = read_json(Layout(self.project.scale).cost(report)), table[0]
            for row in table:
                data[row["manifest"] + row["test_sha256"]] = f"{report}, {row['variant']}"
                if row["variant"] in self.project.variants:
                    yield row["variant"], self._run(row, first, cost)
        if len(data) > 1:
            one, other, *_ = data.values()
            raise ParameterError(
                f"--budget: {one} and {other} were trained or tested on different data; make their reports again"
            )

    def _run(self, row: dict[str, str], first: dict[str, str], cost: dict) -> MeasuredRun:
        """Return a row of a table; the total costs of its first row are those of its own samples."""
        of_first, samples = cost["variants"][first["variant"]], int(first["samples"])
        flops = float(row["relative_total_flops"]) * of_first["flops_per_sample"] * samples
        hours = flops / self.rate / 3600
        if cost["device"] == self.gpu.device:
            hours = float(row["relative_total_time"]) * of_first["seconds_per_sample"] * samples / 3600
        value, low, high = (float(row[key]) for key in ("value", "low", "high"))
        return MeasuredRun(row["variant"], value, low, high, flops, hours, len(row["seeds"].split()))

    def _recipe(self, variant: str) -> str:
        """Return all that a run depends on but its schedule, and of those that it builds on."""
        keys = [*(f"train.{key}" for key in SCHEDULE), *NAMES]
        chain = [self.project.variants[one] for one in self.project.chain(variant)]
        return json.dumps([without(PRETRAIN.parameters(params), keys) for params in chain], sort_keys=True)

    @cached_property
    def curves(self) -> list[list[MeasuredRun]]:
        """Return the runs that differ in their schedule alone, least compute first."""
        found: dict[str, list[MeasuredRun]] = {}
        for run in sorted(self.runs.values(), key=lambda run: run.flops):
            found.setdefault(self._recipe(run.variant), []).append(run)
        return [*found.values()]

    @cached_property
    def laws(self) -> dict[str, FittedLaw]:
        """Return the laws of those curves that have enough runs, by their first run."""
        long = [runs for runs in self.curves if len(runs) >= FITTED_RUNS]
        curves = [self._law_curve(runs) for runs in long]
        try:
            found = fit(curves, choose(curves)[0], self._spread(long)) if curves else []
        except RuntimeError:
            return {}
        return {law.label: law for law in found}

    def _spread(self, curves: list[list[MeasuredRun]]) -> Spread:
        """Return the spread of seeds that the intervals of runs stand for, that of test images with it."""
        runs = [one for curve in curves for one in curve]
        freedom = sum(one.seeds - 1 for one in runs)
        between = float(np.mean([one.width(self.confidence) ** 2 * one.seeds for one in runs]))
        return Spread(between, 0.0, freedom) if freedom else Spread(0.0, 0.0, 0)

    def _law_curve(self, runs: list[MeasuredRun]) -> LawCurve:
        points = [
            LawPoint(one.variant, one.flops, one.hours, one.estimate(self.confidence), one.seeds, True) for one in runs
        ]
        return LawCurve(runs[0].variant, runs[-1].flops, points, [])

    def _promise(self, runs: list[MeasuredRun], hours: float) -> tuple[Estimate, str, list[MeasuredRun], float]:
        """Return the error that a curve promises for a budget, how it is known, from which runs, and the hours that it
        takes. The budget is at least that of the first run."""
        law = self.laws.get(runs[0].variant)
        before = [one for one in runs if one.hours <= hours * (1 + CLOSE)]
        last, rest = before[-1], runs[len(before) :]
        if law and hours <= FURTHEST * runs[-1].hours:
            flops = last.flops * hours / last.hours
            return law.predict(flops, min(one.seeds for one in runs)), law.form.name, runs, hours
        if not rest or abs(last.hours / hours - 1) <= CLOSE:
            return last.estimate(self.confidence), "its longest run" if not rest else "measured", [last], last.hours
        share = float(np.log(hours / last.hours) / np.log(rest[0].hours / last.hours))
        ends = last.estimate(self.confidence), rest[0].estimate(self.confidence)
        between = both(lambda one, two: (1 - share) * one + share * two, *ends)
        return between, "interpolated", [last, rest[0]], hours

    def choices(self, hours: float) -> list[BudgetChoice]:
        """Return what each curve promises for a budget of GPU-hours, the best first.

        Raises:
            ParameterError: no run is as short, or all are far shorter.
        """
        least, most = (limit(one.hours for one in self.runs.values()) for limit in (min, max))
        if not least <= hours * (1 + CLOSE) <= FURTHEST * most * (1 + CLOSE):
            raise ParameterError(
                f"--budget {hours:g}: runs at scale '{self.project.scale}' are measured from {least:.3g} to {most:.3g} "
                f"GPU-hours; name a budget up to {FURTHEST:g} times as long, or another --scale"
            )
        affordable = [runs for runs in self.curves if runs[0].hours <= hours * (1 + CLOSE)]
        named = labels([self._without_schedule(runs[0].variant) for runs in affordable])
        found = [self._choice(runs, label, hours) for runs, label in zip(affordable, named, strict=True)]
        return sorted(found, key=lambda one: -one.accuracy)

    def _choice(self, runs: list[MeasuredRun], label: str, hours: float) -> BudgetChoice:
        error, way, basis, used = self._promise(runs, hours)
        low, high = error.interval(self.confidence)
        like = max((one for one in runs if one.hours <= hours * (1 + CLOSE)), key=lambda one: one.hours)
        ends, seeds = (PERCENT - error.value, PERCENT - high, PERCENT - low), {one.variant: one.seeds for one in basis}
        return BudgetChoice(like.variant, label, *ends, used / like.hours, used, way, seeds)

    def _without_schedule(self, variant: str) -> Params:
        """Return a variant's parameters with the schedule of all, for a label that says what is left."""
        train = self.project.baseline.train
        return changed(self.project.variants[variant], "train", **{key: getattr(train, key) for key in SCHEDULE})
