"""The report as one self-contained page: no script, nothing loaded from elsewhere."""

from collections import Counter

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flip.report import formats, pictures, scaling, tradeoff
from flip.report.cells import chance, read_paper
from flip.report.labels import column
from flip.report.results import Results

TAGS = {"yes": ("yes", "agrees"), "no": ("no", "disagrees"), "within noise": ("noise", "within noise")}
# Points of a training curve, pixels of its drawing.
POINTS, WIDTH, HEIGHT = 120, 200, 80


def encoder(layers: int, width: int, others: int) -> str:
    """Depth, width and weights of a tower: 12 x width^2 per layer, and `others` x width in its embeddings."""
    count = 12 * layers * width**2 + others * width
    return f"{layers} layers of width {width}, about {count / 1e6:.3g} M parameters"


def setup(results: Results) -> dict[str, str]:
    """This project's side of paper.yaml's `setup`, from the frozen parameters of the first table's baseline."""
    run = results.runs[next(iter(results.project.tables.values())).variants[0]]
    params, model, train = run.params, run.params.model, run.params.train
    fine = results.sets["fine"]
    return {
        "Image encoder": encoder(model.vision.layers, model.vision.width, 3 * model.patch**2),
        "Text encoder": encoder(model.text.layers, model.text.width, params.tokenizer.vocabulary),
        "Pictures": f"{model.image} px, {model.patches} patches of {model.patch} px",
        "Captions": f"{model.tokens} tokens, vocabulary of {params.tokenizer.vocabulary:,} at most",
        "Training pairs": f"{params.source.table}, {run.data['pictures']:,}",
        "Baseline's epochs": f"{train.total_epochs:g}",
        "Baseline's samples seen": f"{run.samples:,}",
        "Baseline's batch": f"{train.global_batch:,}",
        "Learning rate at batch 256": f"{train.base_lr:g}",
        "Warm-up samples": f"{train.warmup:,}",
        "Precision": train.precision,
        "Test set": f"fine: {fine['samples']:,} pictures, {fine['classes']:,} classes (chance {chance(fine):.2g}%)",
        "Seeds": f"{len(params.seeds)}, {results.bootstrap.confidence:.0%} bootstrap intervals",
        "Hardware": ", ".join(sorted({one["device"] for run in results.runs.values() for one in run.training})),
    }


def _bins(log, column: str) -> np.ndarray:
    """The column's means over at most POINTS equal stretches of training."""
    return np.array([part.mean() for part in np.array_split(log[column].to_numpy(), min(POINTS, len(log)))])


def training_curves(results: Results) -> list[dict]:
    """Each run's loss as lines of an SVG; all drawings share the loss axis."""
    losses = {name: [_bins(log, "loss") for log in run.logs] for name, run in results.runs.items()}
    top = max(values.max() for lines in losses.values() for values in lines)

    def line(values):
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


def headline(tables, speedups) -> list[str]:
    """What the first table, the trade-off figure and the comparison with the paper say, in sentences."""
    first, sentences = tables[0], []
    for row in first.rows[1:]:
        cell, cost = next((cell for cell in row.cells if cell.difference is not None), None), row.cost
        if cell is None:
            continue
        ratios = [formats.times(cost["relative_flops"]), formats.times(cost["relative_time"])]
        text = (
            f"{row.variant} ({row.label}): {formats.difference(cell)} points of {column(cell.metric)} against "
            f"{cell.reference}, with {ratios[0]} the FLOPs and {ratios[1]} the time per sample"
        )
        if cell.paper_difference is not None:
            text += f". The paper: {cell.paper_difference:+.1f} points"
            if row.paper_cost:
                printed = [formats.times(row.paper_cost.get(f"relative_{name}")) for name in ("flops", "time")]
                text += f", {printed[0]} and {printed[1]}"
        sentences.append(f"{text}.")
    for one in speedups:
        share = f"some run of the curve reaches it in {one['share']:.0%} of the resamples"
        text = f"{one['label']} does not reach the accuracy of {one['baseline']}"
        if one["speedup"] is not None:
            ratio = f"{'at least ' if one['first'] else ''}{one['speedup']:.1f}x"
            text = f"{one['label']} reaches the accuracy of {one['baseline']} with a speed-up of {ratio}"
        sentences.append(f"{text} ({share}).")
    return sentences


def agreement(tables) -> Counter:
    """How many comparisons, each counted once, have the paper's sign."""
    found = {
        (row.variant, cell.metric, cell.reference): cell.agrees
        for table in tables
        for row in table.rows
        for cell in row.cells
        if cell.agrees
    }
    return Counter(found.values())


def figure(curves, metric) -> Markup:
    """The trade-off figure as an element, without the XML prologue."""
    svg = tradeoff.draw(curves, metric, "svg").decode()
    return Markup(svg[svg.index("<svg") :])


def manifests(results: Results) -> dict[str, list[str]]:
    """The variants that were trained on each manifest."""
    found = {}
    for name, run in results.runs.items():
        found.setdefault(run.data["manifest"], []).append(name)
    return found


def versions(results: Results) -> list[tuple[str, str]]:
    """All commits and package versions that the results were made with."""
    found = {}
    for run in results.runs.values():
        for one in run.receipts:
            for name, version in ({"flip commit": formats.commit(one["git"])} | one["versions"]).items():
                found.setdefault(name, set()).add(str(version))
    return [(name, ", ".join(sorted(values))) for name, values in sorted(found.items())]


def render(results: Results, tables, curves, laws=()) -> str:
    """index.html."""
    environment = Environment(
        loader=PackageLoader("flip.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    project = results.project
    environment.filters |= {"times": formats.times, "megabytes": formats.megabytes}
    here, paper = setup(results), read_paper()
    return environment.get_template("page.html").render(
        scale=project.scale,
        report=next(iter(project.reports.values())),
        results=results,
        tables=tables,
        formats=formats,
        column=column,
        paper=paper,
        setup=[(name, text, here[name]) for name, text in paper["setup"].items()],
        headline=headline(tables, tradeoff.speedups(curves) if curves else []),
        agreement=agreement(tables),
        tags=TAGS,
        curves=curves,
        metric=project.tradeoff and project.tradeoff.metric,
        figure=figure(curves, project.tradeoff.metric) if curves else "",
        scaling=scaling.section(results, laws),
        looks=pictures.relevance(results, tables),
        reconstructions=pictures.reconstructions(results),
        tokenizer=pictures.tokenizer(results),
        training=training_curves(results),
        size=(WIDTH, HEIGHT),
        many_seeds=any(len(run.params.seeds) > 1 for run in results.runs.values()),
        manifests=manifests(results),
        versions=versions(results),
    )
