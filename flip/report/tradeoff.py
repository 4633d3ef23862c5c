"""Draw accuracy against training time, one curve per mask ratio (FLIP, Figures 1 and 3)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flip.metrics.names import Metric
from flip.report.costs import cost, relative
from flip.report.intervals import Estimate, Estimates
from flip.report.results import Results

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Okabe and Ito's palette, as dark as text has to be; told apart with any colour vision, and by their shapes in print.
STYLES = [("#0072B2", "o"), ("#B84F00", "s"), ("#007A5A", "^"), ("#A0428B", "D"), ("#7A5C00", "v")]
# The same bytes from the same numbers; text stays text.
SETTINGS: "dict[RcKeyType, Any]" = {
    "svg.hashsalt": "flip",
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.spines.top": False,
}
METADATA = {"svg": dict.fromkeys(["Creator", "Date", "Format", "Type"]), "png": {"Software": None}}


@dataclass(frozen=True)
class TradeoffPoint:
    variant: str
    epochs: float
    time: float
    estimate: Estimate
    low: float
    high: float


def curves(results: Results, estimates: Estimates) -> dict[str, list[TradeoffPoint]]:
    """Return curves in the order of params.yaml, if any; times are relative to the last run of the first one."""
    tradeoff = results.project.tradeoff
    if tradeoff is None:
        return {}
    metric = results.project.metric(tradeoff.metric)
    baseline = cost(next(iter(tradeoff.curves.values()))[-1], results)

    def point(variant: str) -> TradeoffPoint:
        if missing := results.runs[variant].missing(metric):
            raise ValueError(f"tradeoff.curves: '{variant}' has no '{metric}' ({missing}); take it out")
        estimate = estimates[variant, metric]
        return TradeoffPoint(
            variant=variant,
            epochs=results.runs[variant].params.train.total_epochs,
            time=relative(cost(variant, results), baseline)["relative_total_time"],
            estimate=estimate,
            low=estimate.interval(results.bootstrap.confidence)[0],
            high=estimate.interval(results.bootstrap.confidence)[1],
        )

    return {label: [point(variant) for variant in names] for label, names in tradeoff.curves.items()}


def time_to(accuracy: float, times: Sequence[float], accuracies: Sequence[float]) -> float | None:
    """Return the time at which linear interpolation of the points first reaches `accuracy`; None if it does not."""
    for i, reached in enumerate(accuracies):
        if reached >= accuracy:
            if i == 0:
                return times[0]
            share = (accuracy - accuracies[i - 1]) / (reached - accuracies[i - 1])
            return times[i - 1] + share * (times[i] - times[i - 1])
    return None


def speedups(found: dict[str, list[TradeoffPoint]]) -> list[dict]:
    """Return for each curve but the first how much sooner it reaches the accuracy of the first one's last run.

    `speedup` is None where a curve does not get there; `first` says that its shortest run is there already, so that
    the speed-up is a lower bound; `share` is the share of resamples in which it gets there; `one_run` says that a point
    is of a single seed.
    """
    (_, base), *others = found.items()
    target, rows = base[-1].estimate, []
    for label, points in others:
        times = [point.time for point in points]
        time = time_to(target.value, times, [point.estimate.value for point in points])
        best = np.max([point.estimate.resampled for point in points], axis=0)
        rows.append(
            {
                "label": label,
                "baseline": base[-1].variant,
                "speedup": None if time is None else base[-1].time / time,
                "first": time == times[0],
                "share": float(np.mean(best >= target.resampled)),
                "one_run": any(point.estimate.error is None for point in (*base, *points)),
            }
        )
    return rows


def _apart(heights: list[float], gap: float) -> list[float]:
    """Return the heights, in their order, moved up where needed to be `gap` apart."""
    placed, last = [0.0] * len(heights), -np.inf
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        placed[i] = last = max(heights[i], last + gap)
    return placed


def _draw_curve(axes: Axes, points: list[TradeoffPoint], color: str, marker: str, below: int) -> None:
    times, values = [p.time for p in points], [p.estimate.value for p in points]
    bars = [[p.estimate.value - p.low for p in points], [p.high - p.estimate.value for p in points]]
    axes.errorbar(times, values, yerr=bars, color=color, marker=marker, markersize=7, capsize=3, linewidth=1.8)
    # Neighbouring curves write on opposite sides, so that the numbers of close points stay apart.
    place, side = (((-6, 6), "right"), ((6, -12), "left"))[below]
    for point in points:
        at = (point.time, point.estimate.value)
        axes.annotate(f"{point.epochs:.3g}", at, place, textcoords="offset points", ha=side, color=color, fontsize=9)


def draw(found: dict[str, list[TradeoffPoint]], metric: Metric, kind: str) -> bytes:
    """Draw the figure as 'svg' or 'png'."""
    with matplotlib.rc_context(SETTINGS | {"axes.spines.right": False}):
        figure = Figure(figsize=(4.8, 3.8), layout="constrained")
        axes = figure.add_subplot()
        lows, highs = zip(*[(p.low, p.high) for points in found.values() for p in points], strict=True)
        ends = [points[-1].estimate.value for points in found.values()]
        right = max(point.time for points in found.values() for point in points)
        heights = _apart(ends, (max(highs) - min(lows)) / 14)
        for i, ((label, points), height) in enumerate(zip(found.items(), heights, strict=True)):
            color, marker = STYLES[i % len(STYLES)]
            _draw_curve(axes, points, color, marker, below=i % 2)
            axes.annotate(
                label, (points[-1].time, ends[i]), (1.13 * right, height), color=color, fontweight="bold",
                va="center", annotation_clip=False, arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.35},
            )  # fmt: skip
        axes.set_xlim(0, 1.06 * right)
        axes.grid(alpha=0.25)
        first = next(iter(found.values()))[-1].variant
        axes.set_xlabel(f"training time, {first} = 1 (small: epochs)")
        axes.set_ylabel(f"{metric}, zero-shot accuracy, %")
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=200, metadata=METADATA[kind])
    return file.getvalue()
