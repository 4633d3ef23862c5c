"""Specify the interactive figures in Vega-Lite, and return their numbers as records, which go into files, too."""

from typing import Any

import numpy as np
import pandas as pd

from flip.metrics.names import Metric
from flip.report import formats
from flip.report.cells import Comparison
from flip.report.costs import cost, relative
from flip.report.results import Results
from flip.report.timeline import Timeline
from flip.report.tradeoff import STYLES, TradeoffPoint
from flip.report.vega import CONFIG, HEIGHT, STILL, axis, build_figure, chosen_by, error_bars, rounded, tooltip

POINTS = 40  # per training curve
LANE = 26  # pixels
PANEL = {"width": 110, "height": 80}  # pixels, of each drawing of a figure of many
LABELS, LINE = 170, 13  # pixels: for the names beside curves, and between two of them
UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}
SHAPES = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"}
BEST, OTHERS = "#a8380b", "#0b62a8"  # colours of what was chosen, and of what else was tried
HEADER = {"labelFontSize": 12, "labelFontWeight": 600, "labelColor": "#222", "labelLimit": PANEL["width"] + 40}


def tradeoff_records(curves: dict[str, list[TradeoffPoint]]) -> list[dict]:
    """Return the points of the trade-off figure; times relative to the first curve's last run, accuracies in
    percent."""
    return [
        {
            "curve": label,
            "variant": point.variant,
            "epochs": point.epochs,
            "time": rounded(point.time),
            "value": rounded(point.estimate.value),
            "low": rounded(point.low),
            "high": rounded(point.high),
        }
        for label, points in curves.items()
        for point in points
    ]


def tradeoff(curves: dict[str, list[TradeoffPoint]], metric: Metric) -> dict:
    """Plot accuracy against training time, a curve per mask ratio (FLIP, Figures 1 and 3); {} without curves."""
    if not curves:
        return {}
    first, labels = next(iter(curves.values()))[-1].variant, list(curves)
    styles = [STYLES[place % len(STYLES)] for place in range(len(labels))]
    y = axis("value", f"{metric}, zero-shot accuracy, %")
    colour = {"field": "curve", "type": "nominal", "scale": {"domain": labels, "range": [one for one, _ in styles]}}
    shape: dict[str, Any] = {"field": "curve", "type": "nominal", "title": None}
    shape |= {"scale": {"domain": labels, "range": [SHAPES[one] for _, one in styles]}}
    said = tooltip(variant="run", curve="curve", epochs="epochs", time="time", value="accuracy", low="from", high="to")
    points = {
        "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
        "params": chosen_by("curve", "chosen"),
    }
    return build_figure(
        tradeoff_records(curves),
        f"{metric} accuracy against training time, one curve per mask ratio; the table beside it has its points.",
        axis("time", f"training time, {first} = 1", zero=True),
        colour,
        [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": y}},
            error_bars(y),
            points | {"encoding": {"y": y, "shape": shape, "tooltip": said}},
        ],
    )


def training_records(results: Results) -> list[dict]:
    """Return loss and speed of each run, as means over equal stretches of training."""
    found = []
    for variant, run in results.runs.items():
        for seed, log in zip(run.params.seeds, run.logs, strict=True):
            columns = log[["samples", "loss", "samples_per_second"]].to_numpy(float)
            for samples, loss, speed in (part.mean(axis=0) for part in np.array_split(columns, min(POINTS, len(log)))):
                row = {"variant": variant, "seed": seed, "samples": round(samples), "loss": rounded(loss)}
                found.append(row | {"samples_per_second": rounded(speed, 1)})
    return found


def label_records(records: list[dict]) -> list[dict]:
    """Return where each run's curves end, and where its name can stand beside, LINE apart from the others: `label`, in
    units of the loss, whose axis is logarithmic."""
    losses = np.log([one["loss"] for one in records if one["loss"]])
    top, span = losses.max(), max(float(np.ptp(losses)), 1e-9)
    found = []
    for name, some in pd.DataFrame(records).groupby("variant", sort=False):
        last = some[some.samples == some.samples.max()]
        found.append({"variant": name, "samples": int(last.samples.iloc[0]), "loss": rounded(last.loss.mean())})
    found.sort(key=lambda one: -one["loss"])
    height = max(HEIGHT, LINE * len(found))
    places = [height * (top - np.log(one["loss"])) / span for one in found]
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + LINE)
    bottom = height
    for number in reversed(range(len(places))):
        places[number] = bottom = min(places[number], bottom)
        bottom -= LINE
    return [
        one | {"label": rounded(np.exp(top - place / height * span), 6)}
        for one, place in zip(found, places, strict=True)
    ]


def training(results: Results) -> dict:
    """Plot training loss against samples seen, a curve per run."""
    records, labels = training_records(results), label_records(training_records(results))
    y = axis("loss", "training loss, logarithmic") | {"scale": {"type": "log", "nice": False}}
    said = tooltip(variant="run", seed="seed", samples="samples", loss="loss", samples_per_second="samples a second")
    colour: dict[str, Any] = {"field": "variant", "type": "nominal", "legend": None}
    colour |= {"scale": {"domain": list(results.runs), "scheme": "tableau20"}}
    lines = {"mark": {"type": "line", "strokeWidth": 1.6}}
    near = {"name": "chosen", "select": {"type": "point", "fields": ["variant"], "on": "pointerover"}}
    points = {"mark": {"type": "point", "filled": True, "size": 90}, "params": [near]}
    beside: dict[str, Any] = {"value": {"expr": "width + 14"}}
    text = {"mark": {"type": "text", "align": "left", "fontSize": 11, "limit": LABELS - 20}}
    leader = {"mark": {"type": "rule", "strokeWidth": 0.7}}
    named = [
        leader | {"encoding": {"y": y, "y2": {"field": "label"}, "x2": {"value": {"expr": "width + 10"}}}},
        text | {"encoding": {"x": beside, "y": y | {"field": "label"}, "text": {"field": "variant"}}},
    ]
    figure = build_figure(
        records,
        "Training loss of each run against the samples that it has seen; the small drawings below show each by itself.",
        axis("samples", "samples seen", zero=True),
        colour,
        [
            lines | {"encoding": {"y": y, "detail": {"field": "seed"}}},
            points | {"encoding": {"y": y, "opacity": {"value": 0}, "tooltip": said}},
            *(one | {"data": {"values": labels}} for one in named),
        ],
    )
    sized = {"autosize": {"type": "fit-x", "contains": "padding"}, "padding": {"right": LABELS, "left": 5, "top": 8}}
    return figure | sized | {"height": max(HEIGHT, LINE * len(labels))}


def sweeps(records: list[dict]) -> dict:
    """Plot scores against the values that were tried (flip.report.swept), a small drawing per row, all on one axis of
    scores; {} without records."""
    if not records:
        return {}
    parameters, metrics = (" or ".join(dict.fromkeys(one[key] for one in records)) for key in ("parameters", "metric"))
    x: dict[str, Any] = {"field": "values", "type": "ordinal", "sort": None, "title": None}
    y = axis("score", f"{metrics}, %") | {"axis": {"tickCount": 4, "titleFontWeight": "normal"}}
    chosen: dict[str, Any] = {"test": "datum.chosen"}
    said = tooltip(variant="run", values=parameters, score="score, %", chosen="chosen")
    channels: list[tuple[str, Any, Any]] = [("shape", "diamond", "circle"), ("size", 150, 35), ("color", BEST, OTHERS)]
    marked = {channel: {"condition": chosen | {"value": best}, "value": other} for channel, best, other in channels}
    points = {"mark": {"type": "point", "filled": True, "opacity": 1}, "encoding": {"tooltip": said} | marked}
    line = {"mark": {"type": "line", "strokeWidth": 1.6, "color": OTHERS}}
    return {
        "description": f"{metrics} accuracy against {parameters}, a drawing per row; diamonds are what was chosen. The "
        "table's notes have the numbers.",
        "config": CONFIG,
        "data": {"values": records},
        "facet": {"field": "variant", "type": "nominal", "sort": None, "title": None, "header": HEADER},
        "columns": STILL["columns"],
        "spec": PANEL | {"encoding": {"x": x, "y": y}, "layer": [line, points]},
        "resolve": {"scale": {"x": "independent"}},
    }


def cost_records(results: Results, tables: list[Comparison], metric: Metric) -> list[dict]:
    """Return a record of each variant of the tables that has the metric: costs relative to the first row of all,
    accuracy in percent."""
    baseline = cost(tables[0].rows[0].variant, results)
    found = {}
    for row in (row for table in tables for row in table.rows):
        for cell in row.cells:
            if cell.metric == metric and cell.value is not None:
                ratios = relative(cost(row.variant, results), baseline)
                found[row.variant] = {
                    "variant": row.variant,
                    "time": rounded(ratios["relative_total_time"]),
                    "flops": rounded(ratios["relative_total_flops"]),
                    "memory": ratios["peak_memory_bytes"] / 1e6,
                    "value": cell.value,
                    "low": cell.low,
                    "high": cell.high,
                }
    return list(found.values())


def costs(results: Results, tables: list[Comparison], metric: Metric) -> dict:
    """Plot accuracy against training time, with points as large as the memory that a step takes; {} without points."""
    if not (records := cost_records(results, tables, metric)):
        return {}
    y, first = axis("value", f"{metric}, %"), tables[0].rows[0].variant
    names = [record["variant"] for record in records]
    said = tooltip(
        variant="run", value="accuracy", low="from", high="to", time="time", flops="FLOPs", memory="memory, MB"
    )
    size = {"field": "memory", "type": "quantitative", "title": "peak memory, MB", "scale": {"range": [40, 420]}}
    size |= {"legend": {"orient": "top", "direction": "horizontal"}}
    points = {"mark": {"type": "point", "filled": True, "opacity": 0.9}, "params": chosen_by("variant", "chosen")}
    return build_figure(
        records,
        f"{metric} of each variant against its training time; larger points took more memory. Tables have the numbers.",
        axis("time", f"training time, {first} = 1", zero=True),
        {"field": "variant", "type": "nominal", "scale": {"domain": names, "scheme": "tableau20"}},
        [error_bars(y), points | {"encoding": {"y": y, "size": size, "tooltip": said}}],
    )


def pause_records(found: Timeline, end: float, unit: int) -> list[dict]:
    """Mark where pauses are left out, and how long they are; `label` is empty next to that of a longer pause, to whose
    `side` a fifth of the width is kept free, as a phone needs."""
    written: list[float] = []
    records: list[dict] = []
    for one in sorted(found.pauses, key=lambda pause: -pause.seconds):
        place, text = found.place(one.end), formats.duration(one.seconds)
        begin = place - end / 5 if place > end / 5 else place
        room = all(abs(begin - other) >= end / 5 for other in written)
        written += [begin] * room
        row = {"at": place / unit, "pause": text, "label": text if room else ""}
        records.append(row | {"side": "right" if begin < place else "left"})
    return records


def _pauses(records: list[dict], x: dict) -> list[dict]:
    """Draw dashed lines with labels at their ends."""
    common = {"x": x | {"field": "at"}, "color": {"value": "#555"}, "opacity": {"value": 1}}
    layers: list[dict] = [
        {"mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"tooltip": tooltip(pause="nothing ran")}},
        {
            "mark": {"type": "text", "dy": -8, "align": {"expr": "datum.side"}},
            "encoding": {"text": {"field": "label"}, "y": {"value": 0}},
        },
    ]
    return [one | {"data": {"values": records}, "encoding": common | one["encoding"]} for one in layers]


def timeline(found: Timeline | None) -> dict:
    """Plot each job from its start to its end, above or below those that ran at the same time; {} without jobs."""
    if found is None:
        return {}
    end = max(found.place(job.end) for job in found.jobs)
    name, unit = next((one for one in UNITS.items() if end >= 2 * one[1]), ("seconds", 1))
    records = [
        {key: row[key] for key in ("stage", "job", "lane", "seconds", "start")}
        | {"from": row["place"] / unit, "to": (row["place"] + row["seconds"]) / unit}
        for row in found.job_records()
    ]
    x = axis("from", f"{name}, without pauses (dashed)") | {"scale": {"nice": False}}
    y = {"field": "lane", "type": "ordinal", "axis": None}
    said = tooltip(job="job", stage="stage", seconds="seconds", start="began")
    stages = [row["stage"] for row in found.stage_records()]
    bars = {"mark": {"type": "bar", "stroke": "white", "strokeWidth": 0.7}, "params": chosen_by("stage", "chosen")}
    bars |= {"encoding": {"x2": {"field": "to"}, "y": y, "tooltip": said}}
    figure = build_figure(
        records,
        "The jobs of this report from start to end, those side by side that ran at once; the table below has the sums.",
        x,
        {"field": "stage", "type": "nominal", "scale": {"domain": stages, "scheme": "tableau20"}},
        [bars, *_pauses(pause_records(found, end, unit), x)],
    )
    return figure | {"height": LANE * (1 + max(found.lanes))}
