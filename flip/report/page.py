"""Render the report as one self-contained HTML file: styles, scripts, figures, images and numbers are part of it."""

from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from flip.metrics.names import Metric
from flip.report import charts, dropped, evidence, formats, images, latex, records, scaling, timeline, tradeoff, vega
from flip.report.cells import Comparison, chance, leading_metric
from flip.report.columns import page_groups
from flip.report.html import inline, templates
from flip.report.labels import column
from flip.report.paper import read_paper
from flip.report.results import Results
from flip.report.swept import tried
from flip.report.verdicts import CONTRADICTED, DEFINITIONS, ONE_RUN, OTHER_SIZE, REPRODUCED, UNDECIDED, VERDICTS

# Styles of verdicts.
TAGS = {REPRODUCED: "yes", OTHER_SIZE: "noise", UNDECIDED: "soft", CONTRADICTED: "no", ONE_RUN: "soft"}
# Points of a training curve, pixels of its drawing.
POINTS, WIDTH, HEIGHT = 120, 200, 80
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """Hold one report: what was read, its tables, its trade-off figure's curves, what its laws of scaling say, if
    any."""

    results: Results
    tables: list[Comparison]
    curves: dict[str, list[tradeoff.TradeoffPoint]]
    laws: dict | None = None

    @property
    def name(self) -> str:
        return next(iter(self.results.project.reports))

    @cached_property
    def time(self) -> timeline.Timeline | None:
        return timeline.read(self.results)

    @cached_property
    def time_figure(self) -> dict:
        return charts.timeline(self.time)

    @property
    def many_seeds(self) -> bool:
        return any(len(run.params.seeds) > 1 for run in self.results.runs.values())


def encoder(layers: int, width: int, others: int) -> str:
    """Describe depth, width and weights of a tower: 12 x width^2 per layer, and `others` x width in its embeddings."""
    count = 12 * layers * width**2 + others * width
    return f"{layers} layers of width {width}, about {count / 1e6:.3g} M parameters"


def setup(results: Results) -> dict[str, str]:
    """Return this project's side of paper.yaml's `setup`, from the frozen parameters of the first table's baseline."""
    run = results.runs[next(iter(results.project.tables.values())).variants[0]]
    params, model, train = run.params, run.params.model, run.params.train
    primary = params.evaluate.primary_set
    tested = results.sets[primary]
    size = f"{tested['samples']:,} images, {tested['classes']:,} classes (chance {chance(tested):.2g}%)"
    return {
        "Image encoder": encoder(model.vision.layers, model.vision.width, 3 * model.patch**2),
        "Text encoder": encoder(model.text.layers, model.text.width, params.tokenizer.vocabulary),
        "Images": f"{model.image} px, {model.patches} patches of {model.patch} px",
        "Captions": f"{model.tokens} tokens, vocabulary of {params.tokenizer.vocabulary:,} at most",
        "Training pairs": f"{params.source.place}, {run.data['images']:,}",
        "Baseline's epochs": f"{train.total_epochs:g}",
        "Baseline's samples seen": f"{run.samples:,}",
        "Baseline's batch": f"{train.global_batch:,}",
        "Learning rate at batch 256": f"{train.base_lr:g}",
        "Warm-up samples": f"{train.warmup:,}",
        "Precision": train.precision,
        "Test set": f"{primary}: {size}",
        "Seeds": f"{len(params.seeds)}, {results.bootstrap.confidence:.0%} intervals",
        "Hardware": ", ".join(sorted({one["device"] for run in results.runs.values() for one in run.training})),
    }


def summary(parts: list[Part]) -> dict[str, str]:
    """Say on what all of the page rests: models, data, hardware, when and by which code."""
    runs = [run for part in parts for run in part.results.runs.values()]
    models = Counter(
        f"image encoder of {encoder(run.params.model.vision.layers, run.params.model.vision.width, 0)}; "
        f"{run.params.model.image} px, {run.params.model.patches} patches"
        for run in runs
    )
    training = [one for run in runs for one in run.training]
    pairs = sorted({run.data["images"] for run in runs})
    days = sorted({one[name][:10] for one in training for name in ("start", "end") if name in one})
    commits = dict(evidence.versions({str(number): run for number, run in enumerate(runs)}))["flip commit"]
    common, count = models.most_common(1)[0]
    others = f" (in {count} of {len(runs)} rows)" if count < len(runs) else ""
    sizes = f"{pairs[0]:,}" if len(pairs) == 1 else f"{pairs[0]:,} to {pairs[-1]:,}"
    found = {
        "Model": common + others,
        "Data": f"{runs[0].params.source.place}, {sizes} pairs",
        "Hardware": ", ".join(sorted({one["device"] for one in training})),
        "Trained": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "",
        "Code": commits,
    }
    return {name: value for name, value in found.items() if value}


def _bins(log: pd.DataFrame, column: str) -> np.ndarray:
    """Return the column's means over at most POINTS equal stretches of training."""
    return np.array([part.mean() for part in np.array_split(log[column].to_numpy(), min(POINTS, len(log)))])


def training_curves(results: Results) -> list[dict]:
    """Return each run's loss as lines of an SVG; all drawings share the loss axis."""
    losses = {name: [_bins(log, "loss") for log in run.logs] for name, run in results.runs.items()}
    top = max(values.max() for lines in losses.values() for values in lines)

    def line(values: np.ndarray) -> str:
        x = np.linspace(0, WIDTH, len(values))
        return " ".join(f"{a:.1f},{HEIGHT * (1 - b / top):.1f}" for a, b in zip(x, values, strict=True))

    return [
        {
            "variant": name,
            "lines": [line(values) for values in lines],
            "last": float(np.mean([values[-1] for values in lines])),
            "samples": results.runs[name].samples,
            "batch": results.runs[name].params.train.global_batch,
            "speed": float(np.mean([log["samples_per_second"].median() for log in results.runs[name].logs])),
        }
        for name, lines in losses.items()
    ]


def headline(tables: list[Comparison], speedups: list[dict]) -> list[str]:
    """Summarize the first table, the trade-off figure and the comparison with the paper in sentences."""
    first, sentences = tables[0], []
    for row in first.rows[1:]:
        cell = next((cell for cell in row.cells if cell.reference), None)
        if cell is None:
            continue
        costs = [row[f"relative_{name}"] for name in ("flops", "time")]
        text = (
            f"{row.variant} ({row.label}): {cell.compared} points of {cell.column.on_page} against {cell.reference}, "
            f"with {costs[0].number} the FLOPs and {costs[1].number} the time per sample"
        )
        if cell.paper_difference is not None:
            text += f". The paper: {cell.paper_difference:+.1f} points"
            if any(one.printed for one in costs):
                text += f", {costs[0].printed} and {costs[1].printed}"
        sentences.append(f"{text}{' (one run)' if cell.verdict == ONE_RUN else ''}.")
    for one in speedups:
        share = ONE_RUN if one["one_run"] else f"in {one['share']:.0%} of the resamples"
        text = f"{one['label']} does not reach the accuracy of {one['baseline']}"
        if one["speedup"] is not None:
            ratio = f"{'at least ' if one['first'] else ''}{one['speedup']:.1f}x"
            text = f"{one['label']} reaches the accuracy of {one['baseline']} with a speed-up of {ratio}"
        sentences.append(f"{text} ({share}).")
    return sentences


def verdicts(tables: list[Comparison]) -> dict[str, int]:
    """Count the comparisons with the paper, each once, by their verdicts; those of one run only if there are any."""
    found = {
        (row.variant, cell.metric, cell.reference): cell.verdict
        for table in tables
        for row in table.rows
        for cell in row.cells
        if cell.verdict and cell.paper_difference is not None
    }
    counted = Counter(found.values())
    return {name: counted[name] for name in VERDICTS} | counted if counted else {}


def figure(curves: dict[str, list[tradeoff.TradeoffPoint]], metric: Metric) -> Markup:
    """Return the trade-off figure as an element."""
    return inline(tradeoff.draw(curves, metric, "svg"))


def download(content: str, kind: str) -> str:
    """Return a link that contains a file."""
    return f"data:{kind};charset=utf-8;base64,{b64encode(content.encode()).decode()}"


def downloads(tables: list[Comparison]) -> dict[str, list[tuple[str, str, str]]]:
    """Return by table the label, the name and the content of each file."""
    return {
        table.name: [
            ("CSV", f"{table.name}.csv", download(records.csv(table.wide()), "text/csv")),
            ("LaTeX", f"{table.name}.tex", download(latex.latex(table), "application/x-tex")),
        ]
        for table in tables
    }


def figures(part: Part) -> dict[str, dict]:
    """Return the specifications of a report's interactive figures by the id of their element."""
    metric = leading_metric(part.results.project)
    found = {
        "tradeoff": charts.tradeoff(part.curves, metric),
        "costs": charts.costs(part.results, part.tables, metric),
        "curves": charts.training(part.results),
        "time": part.time_figure,
    }
    found = {f"{part.name}-{name}-chart": spec for name, spec in found.items()}
    for table in part.tables:
        rows = [row.variant for row in table.rows]
        found[f"table-{table.name}-sweeps-chart"] = charts.sweeps(tried(part.results.project, rows))
    return {name: spec for name, spec in found.items() if spec}


def section(part: Part, shown: set[tuple[str, str]]) -> dict:
    """Return what the template of a report needs; `shown` are the sheets that are on the page already."""
    results, tables, curves = part.results, part.tables, part.curves
    project, here, paper = results.project, setup(results), read_paper()
    metric = leading_metric(project)
    rows = dict.fromkeys(row.variant for table in tables for row in table.rows)
    plotted = {record["variant"] for record in charts.cost_records(results, tables, metric)}
    found, without = images.retrieved(results, shown)
    return {
        "name": part.name,
        "report": project.reports[part.name],
        "results": results,
        "tables": tables,
        "curves": curves,
        "metric": metric,
        "many_seeds": part.many_seeds,
        "setup": [(name, text, here[name]) for name, text in paper["setup"].items()] if curves else [],
        "headline": headline(tables, tradeoff.speedups(curves) if curves else []),
        "verdicts": verdicts(tables),
        "figure": figure(curves, metric) if curves else "",
        "figures": figures(part),
        "scaling": scaling.section(part.laws),
        "downloads": downloads(tables),
        "unplotted": [(name, results.runs[name].missing(metric)) for name in rows if name not in plotted],
        "looks": images.relevance(results, tables, shown),
        "retrieved": found,
        "unretrieved": without,
        "reconstructions": images.reconstructions(results, shown),
        "tokenizer": images.tokenizer(results),
        "training": training_curves(results),
        "time": part.time,
        "still": inline(vega.still(part.time_figure)) if part.time else "",
    }


def environment() -> Environment:
    found = templates("flip.report")
    found.filters |= {"times": formats.times, "megabytes": formats.megabytes, "duration": formats.duration}
    found.filters["together"] = lambda text: text.replace(", ", ",\N{NO-BREAK SPACE}")  # an interval stays in one line
    found.filters["total"] = timeline.total
    return found


def render(parts: list[Part], absent: dict[str, str]) -> str:
    """Render the page of some reports of one scale, and why others are not on it."""
    shown: set[tuple[str, str]] = set()
    first = parts[0].results
    sections = [section(part, shown) for part in parts]
    runs = {name: run for part in parts for name, run in part.results.runs.items()}
    examples, unseen = images.examples(first.data, first.manifest)
    copies, uncopied = dropped.copies(first.data)
    return (
        environment()
        .get_template("page.html")
        .render(
            parts=sections,
            absent=absent,
            scale=first.project.scale,
            results=first,
            sets={name: content for part in parts for name, content in part.results.sets.items()},
            examples=examples,
            unseen=unseen,
            copies=copies,
            uncopied=uncopied,
            many_seeds=any(part.many_seeds for part in parts),
            manifests=evidence.manifests(runs),
            versions=evidence.versions(runs),
            paper=read_paper(),
            formats=formats,
            column=column,
            page_groups=page_groups,
            summary=summary(parts),
            tags=TAGS,
            definitions=DEFINITIONS,
            size=(WIDTH, HEIGHT),
            style=Markup((HERE / "page.css").read_text()),
            script=Markup((HERE / "page.js").read_text()),
            library=Markup(vega.library()),
            charts={name: spec for one in sections for name, spec in one["figures"].items()},
            behind=evidence.behind_cells(parts),
        )
    )
