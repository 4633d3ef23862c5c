"""Fit a scaling law, a power law of the error in compute, to some runs, and compare its predictions with other runs.

error = a x (compute / reference)^-b, a straight line in logarithms, as Cherti et al. (2022, arXiv 2212.07143) fit to
CLIP's zero-shot errors. Compute is the FLOPs of the whole training as counted, that of the runs which it builds on
included; the error is 100% minus the metric. Intervals are over test images (and seeds, if there are several): every
resample is fitted.
"""

import io
from dataclasses import dataclass
from operator import sub
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from flip.files import write_atomic, write_json
from flip.metrics.names import Metric
from flip.report import formats, records
from flip.report.costs import cost
from flip.report.html import inline, templates
from flip.report.intervals import Estimate, Estimates, both
from flip.report.results import Results
from flip.report.tradeoff import METADATA, SETTINGS, STYLES, time_to

LIMIT = 7.0  # of logarithms of ratios: a thousand times more or less is as good as never


@dataclass(frozen=True)
class LawPoint:
    """Hold one training run: its compute in FLOPs, its time over that of the first law's first run, its error in
    percent."""

    variant: str
    flops: float
    time: float
    error: Estimate
    alike: bool  # as large a model as the first fitted one
    one_run: bool = False  # of a single seed


@dataclass(frozen=True)
class FittedLaw:
    """Hold the law error = a x (FLOPs / reference)^-b of the fitted points; `held` are those that it is compared
    with."""

    label: str
    reference: float
    a: Estimate
    b: Estimate
    fitted: list[LawPoint]
    held: list[LawPoint]

    def error(self, flops: float) -> Estimate:
        return both(lambda a, b: a * (flops / self.reference) ** -b, self.a, self.b)

    def saving(self, flops: float, error: Estimate) -> Estimate:
        """Return `flops` over the compute at which the law reaches an error; 0 if the error does not fall."""

        def times(a: float | np.ndarray, b: float | np.ndarray, e: float | np.ndarray) -> np.ndarray:
            falls = b > 0
            steps = np.log(a / e) / np.where(falls, b, 1)
            return np.where(falls, np.exp(np.clip(np.log(flops / self.reference) - steps, -LIMIT, LIMIT)), 0)

        return both(times, self.a, self.b, error)

    @property
    def curve(self) -> list[LawPoint]:
        """Return the runs of one model, least compute first."""
        return sorted((one for one in (*self.fitted, *self.held) if one.alike), key=lambda one: one.flops)


def fit(flops: np.ndarray, errors: np.ndarray, reference: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit a and b [...] by least squares in logarithms, for FLOPs [points] and errors [points, ...]."""
    x, y = np.log(flops / reference), np.log(errors)
    centred = x - x.mean()
    b = -np.tensordot(centred, y, axes=1) / (centred**2).sum()
    return np.exp(y.mean(axis=0) + b * x.mean()), b


def points(results: Results, estimates: Estimates, names: list[str], metric: Metric, first: str) -> list[LawPoint]:
    """Clip errors to half an image, so that they have a logarithm."""
    least = 50 / results.sets[metric.set]["samples"]
    base = float(np.median(cost(first, results).total_time))
    model, found = results.runs[names[0]].params.model, []
    for name in names:
        error = both(lambda value: np.maximum(100 - value, least), estimates[name, metric])
        one_run = estimates.single((name, metric))
        total, alike = cost(name, results), results.runs[name].params.model == model
        found.append(
            LawPoint(name, total.total_flops, float(np.median(total.total_time)) / base, error, alike, one_run)
        )
    return found


def laws(results: Results, estimates: Estimates) -> list[FittedLaw]:
    """Return the laws of the report, in the order of params.yaml; none if it asks for none."""
    scaling = next(iter(results.project.reports.values())).scaling
    if scaling is None:
        return []
    found, reference = [], None
    for label, one in scaling.laws.items():
        first = next(iter(scaling.laws.values())).fitted[0]
        metric = results.project.metric(scaling.metric)
        every = points(results, estimates, [*one.fitted, *one.held_out], metric, first)
        fitted, held = every[: len(one.fitted)], every[len(one.fitted) :]
        flops = np.array([point.flops for point in fitted])
        reference = reference or float(flops.max())
        a, b = fit(flops, np.array([point.error.value for point in fitted]), reference)
        many = fit(flops, np.array([point.error.resampled for point in fitted]), reference)
        found.append(
            FittedLaw(label, reference, Estimate(float(a), many[0]), Estimate(float(b), many[1]), fitted, held)
        )
    return found


def spread(name: str, estimate: Estimate, confidence: float) -> dict[str, float]:
    low, high = estimate.interval(confidence)
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def interpolated(base: list[LawPoint], curve: list[LawPoint], what: str) -> Estimate:
    """Return how many times less (`what`: flops or time) a curve takes to the accuracy of the last run of `base`, by
    linear interpolation between runs; 0 if it does not reach it."""
    own, theirs = ([getattr(one, what) for one in runs] for runs in (curve, base))

    def ratio(target: float, errors: list[float]) -> float:
        found = time_to(-target, own, [-error for error in errors])
        return 0.0 if found is None else theirs[-1] / found

    rows = zip(base[-1].error.resampled, *(one.error.resampled for one in curve), strict=True)
    resampled = np.array([ratio(target, errors) for target, *errors in rows])
    return Estimate(ratio(base[-1].error.value, [one.error.value for one in curve]), resampled)


def savings(found: list[FittedLaw], confidence: float) -> list[dict]:
    """Return for each law but the first how many times less compute, or time, it takes to the accuracy of the first
    one's last run: by its fit, and by interpolation, where `first` says that its shortest run is there already."""
    rows, (base, *others) = [], found
    last = base.curve[-1]
    for law in others:
        row = {"label": law.label, "baseline": last.variant, "first": law.curve[0].error.value <= last.error.value}
        row |= spread("by_law", law.saving(last.flops, last.error), confidence)
        for what in ("flops", "time"):
            row |= spread(what, interpolated(base.curve, law.curve, what), confidence)
        rows.append(row)
    return rows


def rows_of(law: FittedLaw, confidence: float) -> list[dict]:
    """Return a law's points: measured and predicted error, and their difference: within noise, if its interval
    holds 0; None if runs of one seed do not tell."""
    rows = []
    for point in (*law.fitted, *law.held):
        predicted = law.error(point.flops)
        row: dict[str, Any] = {"law": law.label, "variant": point.variant}
        row |= {"fitted": point in law.fitted, "same_model": point.alike}
        row |= {"flops": point.flops, "time": point.time} | spread("error", point.error, confidence)
        row |= spread("predicted", predicted, confidence) | spread("off", both(sub, point.error, predicted), confidence)
        within = row["off_low"] <= 0 <= row["off_high"]
        rows.append(row | {"within_noise": None if any(one.one_run for one in (*law.fitted, point)) else within})
    return rows


def line_of(law: FittedLaw, confidence: float) -> list[dict]:
    """Return the law's predictions between its first and its last run."""
    flops = [point.flops for point in (*law.fitted, *law.held)]
    between = np.geomspace(min(flops), max(flops), 40).tolist()
    return [{"flops": one} | spread("predicted", law.error(one), confidence) for one in between]


def summary(found: list[FittedLaw], metric: str, confidence: float) -> dict:
    """Return the content of scaling.json and of the figure."""
    fits = [
        {"label": law.label, "reference_flops": law.reference}
        | spread("a", law.a, confidence)
        | spread("b", law.b, confidence)
        | {"line": line_of(law, confidence)}
        for law in found
    ]
    every = [row for law in found for row in rows_of(law, confidence)]
    return {
        "metric": metric,
        "confidence": confidence,
        "laws": fits,
        "points": every,
        "savings": savings(found, confidence),
    }


def summarized(results: Results, estimates: Estimates) -> dict | None:
    """Return the summary of a report's laws, once for page, files and figures; None if it has none."""
    scaling = next(iter(results.project.reports.values())).scaling
    if scaling is None or not (found := laws(results, estimates)):
        return None
    return summary(found, scaling.metric, results.bootstrap.confidence)


def draw_law(axes: Axes, law: dict, points: list[dict], color: str, marker: str) -> None:
    flops, said, lows, highs = zip(*(one.values() for one in law["line"]), strict=True)
    axes.plot(flops, said, color=color, linewidth=1.5, label=law["label"])
    axes.fill_between(flops, lows, highs, color=color, alpha=0.15, linewidth=0)
    for point in points:
        error, low, high = (point[name] for name in ("error", "error_low", "error_high"))
        alike = point["same_model"]
        axes.errorbar(
            point["flops"], error, [[error - low], [high - error]], color=color, capsize=3,
            marker=marker if alike else "*", markersize=7 if alike else 10,
            markerfacecolor=color if point["fitted"] else "white",
        )  # fmt: skip


def draw(facts: dict, kind: str) -> bytes:
    """Draw the figure as 'svg' or 'png', both axes logarithmic."""
    with matplotlib.rc_context(SETTINGS | {"axes.spines.right": False}):
        figure = Figure(figsize=(4.8, 3.8), layout="constrained")
        axes = figure.add_subplot(xscale="log", yscale="log")
        for number, law in enumerate(facts["laws"]):
            own = [point for point in facts["points"] if point["law"] == law["label"]]
            draw_law(axes, law, own, *STYLES[number % len(STYLES)])
        low, high = axes.get_xlim()
        steps = (1, 2, 5) if high < 30 * low else (1,)  # what has room
        for axis, form, subs in ((axes.xaxis, "%.0e", steps), (axes.yaxis, "%g", (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))):
            axis.set_major_locator(LogLocator(subs=subs))
            axis.set_major_formatter(FormatStrFormatter(form))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        axes.set(xlabel="FLOPs of the whole training", ylabel=f"{facts['metric']}, error, %")
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=200, metadata=METADATA[kind])
    return file.getvalue()


def sentences(facts: dict) -> list[Markup]:
    """Say in sentences what the laws predict, and what masking saves."""
    said: Any = templates("flip.report").get_template("laws.html").module
    return [said.law(one) for one in facts["laws"]] + [said.saving(one) for one in facts["savings"]]


def markdown(facts: dict) -> str:
    """Return the page's section in Markdown: every run, its law's prediction, and the sentences."""
    head = ["run", "law", "FLOPs", "error, %", "law says, %", "off"]
    lines = [f"### Scaling laws: {facts['metric']}", "", f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in facts["points"]:
        part = f"{row['law']}, {'fitted' if row['fitted'] else 'held out'}"
        cells = [f"**{row['variant']}**", part if row["same_model"] else f"{part}, larger model", f"{row['flops']:.2e}"]
        for name, form in (("error", ".1f"), ("predicted", ".1f"), ("off", "+.1f")):
            cells.append(formats.interval(row[name], row[f"{name}_low"], row[f"{name}_high"], form))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {one.striptags()}" for one in sentences(facts)), ""])


def section(facts: dict | None) -> Markup:
    """Return the report's section on scaling; nothing if it has none."""
    if facts is None:
        return Markup()
    template = templates("flip.report").get_template("scaling.html")
    return Markup(template.render(figure=inline(draw(facts, "svg")), sentences=sentences(facts), **facts))


def write(facts: dict, out: Path) -> None:
    """Write scaling.json, the points as records, all of it as Markdown, and the figure."""
    write_json(out / "scaling.json", facts)
    write_atomic(out / "scaling-laws.md", markdown(facts))
    records.write(out, "figure-scaling", facts["points"])
    for kind in METADATA:
        write_atomic(out / f"scaling.{kind}", draw(facts, kind))
