"""Set measured errors of runs beside what the laws of a report predict (flip.report.laws), and say how they agree.

Compute is the FLOPs of the whole training as counted, that of the runs which it builds on included; the error is 100%
minus the metric.
"""

import io
from collections.abc import Sequence
from operator import sub
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from flip.config.sections.report import Scaling
from flip.files import write_atomic, write_json
from flip.metrics.names import Metric
from flip.report import formats, records
from flip.report.costs import cost
from flip.report.html import inline, templates
from flip.report.intervals import PERCENT, Estimate, Estimates, both
from flip.report.laws import FittedLaw, LawCurve, LawPoint, choose, fit
from flip.report.results import Results
from flip.report.tradeoff import METADATA, SETTINGS, STYLES, time_to
from flip.report.verdicts import ONE_RUN, UNDECIDED

INSIDE, OUTSIDE = "inside", "outside"  # of the interval that a law predicts for a held-out run
DIFFER = "differ"  # two exponents


def points(results: Results, estimates: Estimates, names: list[str], metric: Metric, first: str) -> list[LawPoint]:
    """Return runs, their times over that of the run `first`."""
    base = float(np.median(cost(first, results).total_time))
    model, found = results.runs[names[0]].params.model, []
    for name in names:
        error = both(lambda value: PERCENT - value, estimates[name, metric])
        seeds, alike = estimates.runs[name, metric].seeds, results.runs[name].params.model == model
        total = cost(name, results)
        found.append(LawPoint(name, total.total_flops, float(np.median(total.total_time)) / base, error, seeds, alike))
    return found


def curves(scaling: Scaling, results: Results, estimates: Estimates) -> list[LawCurve]:
    """Return those of the report, in the order of its file."""
    metric, first = results.project.metric(scaling.metric), next(iter(scaling.laws.values())).fitted
    reference = max(cost(name, results).total_flops for name in first)
    found = []
    for label, one in scaling.laws.items():
        every = points(results, estimates, [*one.fitted, *one.held_out], metric, first[0])
        found.append(LawCurve(label, reference, every[: len(one.fitted)], every[len(one.fitted) :]))
    return found


def spread(name: str, estimate: Estimate, confidence: float) -> dict[str, Any]:
    """Return an estimate as fields, with the ends of its interval."""
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


def savings(found: Sequence[FittedLaw], confidence: float) -> list[dict]:
    """Return for each law but the first how many times less compute, or time, it takes to the accuracy of the first
    one's last run: by its fit, and by interpolation, where `first` says that its shortest run is there already."""
    rows, (base, *others) = [], found
    last = base.curve.one_model[-1]
    for law in others:
        runs = law.curve.one_model
        row = {"label": law.label, "baseline": last.variant, "first": runs[0].error.value <= last.error.value}
        row |= spread("by_law", law.saving(last.flops, last.error), confidence)
        for what in ("flops", "time"):
            row |= spread(what, interpolated(base.curve.one_model, runs, what), confidence)
        rows.append(row)
    return rows


def exponents(found: Sequence[FittedLaw], confidence: float) -> list[dict]:
    """Return for each law but the first how its exponent differs from the first one's, with a verdict."""
    rows, (base, *others) = [], found
    for law in others:
        difference = spread("difference", both(sub, law.exponent, base.exponent), confidence)
        zero = difference["difference_low"] <= 0 <= difference["difference_high"]
        one_run = base.curve.one_run or law.curve.one_run
        verdict = ONE_RUN if one_run else UNDECIDED if zero else DIFFER
        rows.append({"label": law.label, "baseline": base.label, **difference, "verdict": verdict})
    return rows


def rows_of(law: FittedLaw, confidence: float) -> list[dict]:
    """Return a law's runs: measured error, the prediction for such a run with its interval, and how far the one is off
    the other; of held-out runs, whether it lies inside."""
    rows, (least, *_, most) = [], sorted(point.flops for point in law.curve.fitted)
    for point in (*law.curve.fitted, *law.curve.held):
        fitted, predicted = point in law.curve.fitted, law.predict(point.flops, point.seeds)
        low, high = predicted.interval(confidence)
        verdict = INSIDE if low <= point.error.value <= high else OUTSIDE
        row: dict[str, Any] = {"law": law.label, "variant": point.variant, "fitted": fitted}
        row |= {"same_model": point.alike, "extrapolated": not least <= point.flops <= most, "seeds": point.seeds}
        row |= {"flops": point.flops, "time": point.time} | spread("error", point.error, confidence)
        row |= spread("predicted", predicted, confidence) | {"off": point.error.value - predicted.value}
        one_run = point.one_run or law.curve.one_run
        rows.append(row | {"verdict": None if fitted else ONE_RUN if one_run else verdict})
    return rows


def line_of(law: FittedLaw, confidence: float) -> list[dict]:
    """Return what the law predicts for runs of as many seeds as its first one, from its least compute to its most."""
    flops = [point.flops for point in (*law.curve.fitted, *law.curve.held)]
    between, seeds = np.geomspace(min(flops), max(flops), 40).tolist(), law.curve.fitted[0].seeds
    return [{"flops": one} | spread("predicted", law.predict(one, seeds), confidence) for one in between]


def fact(law: FittedLaw, confidence: float) -> dict:
    """Return a law as fields of scaling.json: parameters, noise, and the line to draw."""
    floor = law.irreducible
    return (
        {"label": law.label, "reference_flops": law.curve.reference, "runs": len(law.curve.fitted)}
        | {"one_run": law.curve.one_run, "log_a": float(law.parameters[0])}
        | spread("b", law.exponent, confidence)
        | (spread("irreducible", floor, confidence) if floor else {"irreducible": None})
        | {"line": line_of(law, confidence)}
    )


def summary(found: Sequence[FittedLaw], metric: str, confidence: float, left_out: dict[str, float]) -> dict:
    """Return the content of scaling.json and of the figure; `left_out` is the error of each form, in points."""
    noise = found[0].noise
    return {
        "metric": metric,
        "confidence": confidence,
        "form": found[0].form.name,
        "left_out": left_out,
        "seeds_sd": noise.seeds**0.5 if noise.seeds else None,
        "birge": noise.ratio**0.5 if noise.seeds else None,
        "laws": [fact(law, confidence) for law in found],
        "points": [row for law in found for row in rows_of(law, confidence)],
        "exponents": exponents(found, confidence),
        "savings": savings(found, confidence),
    }


def summarized(results: Results, estimates: Estimates) -> dict | None:
    """Return the summary of a report's laws, once for page, files and figures; None if it has none."""
    scaling = next(iter(results.project.reports.values())).scaling
    if scaling is None:
        return None
    found = curves(scaling, results, estimates)
    form, left_out = choose(found)
    laws = fit(found, form, estimates.spread(results.project.metric(scaling.metric)))
    return summary(laws, scaling.metric, results.bootstrap.confidence, left_out)


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


def headline(facts: dict) -> dict:
    """Return what the headline counts: held-out runs with a verdict, those inside, those of one run, and the runs
    outside by law."""
    held = [row for row in facts["points"] if not row["fitted"]]
    outside: dict[str, list[dict]] = {}
    for row in held:
        if row["verdict"] == OUTSIDE:
            outside.setdefault(row["law"], []).append(row)
    count = {one: sum(row["verdict"] == one for row in held) for one in (INSIDE, ONE_RUN)}
    return {
        "judged": len(held) - count[ONE_RUN],
        "inside": count[INSIDE],
        "one_run": count[ONE_RUN],
        "outside": outside,
    }


def sentences(facts: dict) -> list[Markup]:
    """Say in sentences whether the laws predict what they have not seen, which form they have, and what masking
    saves."""
    said: Any = templates("flip.report").get_template("laws.html").module
    return [
        said.headline(headline(facts), facts["confidence"]),
        said.form(facts),
        *(said.law(one) for one in facts["laws"]),
        *(said.exponent(one) for one in facts["exponents"]),
        *(said.saving(one) for one in facts["savings"]),
    ]


def kind(row: dict) -> str:
    """Say what a run is to its law: 'mask 0%, held out beyond the fitted, larger model'."""
    place = "held out beyond the fitted" if row["extrapolated"] else "held out among the fitted"
    return f"{row['law']}, {'fitted' if row['fitted'] else place}{'' if row['same_model'] else ', larger model'}"


def markdown(facts: dict) -> str:
    """Return the page's section in Markdown: the headline, every run with its law's prediction, the other sentences."""
    first, *others = (one.striptags() for one in sentences(facts))
    head = ["run", "law", "FLOPs", "error, %", "law predicts, %", "off", "held-out run"]
    lines = [f"### Scaling laws: {facts['metric']}", "", f"**{first}**", ""]
    lines += [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in facts["points"]:
        cells = [f"**{row['variant']}**", kind(row), f"{row['flops']:.2e}"]
        for name in ("error", "predicted"):
            cells.append(formats.interval(row[name], row[f"{name}_low"], row[f"{name}_high"]))
        cells += [f"{row['off']:+.1f}", row["verdict"] or ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {one}" for one in others), ""])


def section(facts: dict | None) -> Markup:
    """Return the report's section on scaling; nothing if it has none."""
    if facts is None:
        return Markup()
    template = templates("flip.report").get_template("scaling.html")
    tags = {INSIDE: "yes", OUTSIDE: "no", ONE_RUN: "soft"}
    said = {"sentences": sentences(facts), "tags": tags, "kind": kind}
    return Markup(template.render(figure=inline(draw(facts, "svg")), **said, **facts))


def write(facts: dict, out: Path) -> None:
    """Write scaling.json, the points as records, all of it as Markdown, and the figure."""
    write_json(out / "scaling.json", facts)
    write_atomic(out / "scaling-laws.md", markdown(facts))
    records.write(out, "figure-scaling", facts["points"])
    for kind in METADATA:
        write_atomic(out / f"scaling.{kind}", draw(facts, kind))
