"""Select images for the page: examples of training data, and sheets of retrieval, relevance, reconstruction, codes."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from flip.data.contact_sheet import QUALITY, SHOWN, spread
from flip.data.shard import Shard, open_shard
from flip.formats.images import decode
from flip.metrics.names import Metric
from flip.report.cells import Comparison
from flip.report.results import Results
from flip.report.runs import Run

WIDTH, HEIGHT = 200, 60  # units of the histogram's drawing
SIDE = 128  # pixels of the longer side of an example, at most


@dataclass(frozen=True)
class Sheet:
    """Hold an image that is part of the page, its size in pixels, and a description."""

    title: str
    source: str
    size: tuple[int, int]
    alt: str
    caption: str


def _sheet(path: Path, title: str, alt: str, caption: str) -> Sheet:
    with Image.open(path) as image:
        kind, size = image.get_format_mimetype(), image.size
    return Sheet(title, f"data:{kind};base64,{b64encode(path.read_bytes()).decode()}", size, alt, caption)


def _relevance(variant: str, run: Run, facts: dict, path: Path) -> Sheet:
    """Say how many hits the sheet has, and the score of the whole set."""
    hits, test = facts["hits"], facts["set"]
    found = ", ".join(f"{text} ({'hit' if hit else 'miss'})" for text, hit in zip(facts["subjects"], hits, strict=True))
    score, content = run.metrics[0]["metrics"][str(Metric(test))], run.sets[test]
    whole = f"{score:.1f}% of the set's {content['samples']:,}, chance {content['chance']:.1f}%"
    return _sheet(
        path,
        variant,
        f"Where {variant} looks in {len(hits)} test images: {found}.",
        f"Hits: {sum(hits)} of these {len(hits)}; {whole}.",
    )


def relevance(results: Results, tables: list[Comparison], shown: set[tuple[str, str]]) -> dict[str, list[Sheet]]:
    """Return by table, for each of its metrics that is pointing accuracy, the maps of its rows; of a variant once on
    the page, with the first such table. `shown` are those that are on it already."""
    found: dict[str, list[Sheet]] = {}
    for table in tables:
        for variant, metric in [(row.variant, cell.metric) for row in table.rows for cell in row.cells]:
            run = results.runs[variant]
            for name, (facts, path) in run.sheets.items():
                if facts["kind"] == "relevance" and Metric(facts["set"]) == metric and (variant, name) not in shown:
                    shown.add((variant, name))
                    found.setdefault(table.name, []).append(_relevance(variant, run, facts, path))
    return found


def _retrieval(variant: str, run: Run, facts: dict, path: Path) -> Sheet:
    """Say which ranks the sheet has, and the score of the whole set."""
    ranks, metric = facts["ranks"], str(Metric(facts["set"], "image", "r1"))
    found = ", ".join(f"{text} (no. {rank})" for text, rank in zip(facts["subjects"], ranks, strict=True))
    return _sheet(
        path,
        variant,
        f"Captions, below each the {facts['top']} of {facts['images']:,} images that fit it best to {variant}, and "
        f"which place the right one has: {found}.",
        f"Right at once: {ranks.count(1)} of these {len(ranks)}; {metric} {run.metrics[0]['metrics'][metric]:.1f}%.",
    )


def exemplary(results: Results) -> list[str]:
    """Return of the variants with image retrieval the baseline, and the best one if that is another."""
    measured = {name: run.metrics[0]["metrics"] for name, run in results.runs.items()}
    first = dict.fromkeys(str(Metric(test, "image", "r1")) for test in results.project.places)
    metric = next((one for found in measured.values() for one in found if one in first), None)
    scores = {name: found.get(metric) for name, found in measured.items()}
    able = [name for name, score in scores.items() if score is not None]
    return list(dict.fromkeys([able[0], max(able, key=scores.__getitem__)])) if able else []


def retrieved(results: Results, shown: set[tuple[str, str]]) -> tuple[list[Sheet], list[str]]:
    """Return what some variants find for captions, and which of these have no sheet; `shown` as for `relevance`."""
    found, without = [], []
    for variant in exemplary(results):
        run = results.runs[variant]
        sheets = {name: sheet for name, sheet in run.sheets.items() if sheet[0]["kind"] == "retrieval"}
        without += [] if sheets else [variant]
        for name, (facts, path) in sheets.items():
            if (variant, name) not in shown:
                shown.add((variant, name))
                found.append(_retrieval(variant, run, facts, path))
    return found, without


def _reconstruction(variant: str, facts: dict, path: Path) -> Sheet:
    beside = ", and as large a part of the words as in training" if facts["words"] else ""
    how = "Pixels as they are"
    if facts["normalized"]:
        how = "Pixels normalised per patch, drawn with the mean and variance that each patch has and no model predicts"
    return _sheet(
        path,
        variant,
        f"{len(facts['subjects'])} test images, below each its visible patches on grey, and below that what "
        f"{variant} draws in place of the others: {', '.join(facts['subjects'])}.",
        f"{1 - facts['removed']:.0%} of the patches are seen{beside}. {how}. Error on the removed patches of "
        f"{facts['measured']:,} test images: {facts['error']:.2f} of the variance.",
    )


def reconstructions(results: Results, shown: set[tuple[str, str]]) -> list[Sheet]:
    """Return the reconstructions of each variant that predicts pixels; `shown` as for `relevance`."""
    found = []
    for variant, run in results.runs.items():
        for name, (facts, path) in run.sheets.items():
            if facts["kind"] == "reconstruction" and (variant, name) not in shown:
                shown.add((variant, name))
                found.append(_reconstruction(variant, facts, path))
    return found


def bars(use: list[float]) -> list[tuple[str, str, str]]:
    """Return a histogram as rectangles: left edge, top and height of bars that are WIDTH / len(use) apart."""
    top, step = max(use), WIDTH / len(use)
    heights = [HEIGHT * part / top for part in use]
    return [(f"{place * step:.2f}", f"{HEIGHT - h:.2f}", f"{h:.2f}") for place, h in enumerate(heights)]


def tokenizer(results: Results) -> dict | None:
    """Return the image tokenizer's sheet, numbers and histogram, with the variants that read its codes; None if none
    does."""
    if results.codebook is None:
        return None
    facts, path = results.codebook
    caption = "Images from the training set, and below each what its codes show."
    alt = "A dozen training images, and below each one the same image made from one code per patch, less sharp."
    return facts | {
        "variants": [name for name, run in results.runs.items() if run.params.flava.reads_codes],
        "sheets": [_sheet(path, "Originals and reconstructions", alt, caption)],
        "bars": bars(facts["use"]),
        "bar": f"{0.85 * WIDTH / len(facts['use']):.2f}",
        "box": (WIDTH, HEIGHT),
        "parts": len(facts["use"]),
    }


@dataclass(frozen=True)
class Example:
    """Hold an image that is part of the page, with its size in pixels."""

    source: str
    size: tuple[int, int]
    caption: str


def example(shard: Shard, item: int) -> Example:
    """Return a sample of a shard."""
    image, file = decode(bytes(shard.encoded(item)), shard.key(item)).convert("RGB"), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(file, "WEBP", quality=QUALITY, method=6)
    source = f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"
    return Example(source, image.size, shard.caption(item).strip())


def examples(data: Path, manifest: dict) -> tuple[list[Example], str | None]:
    """Return samples of the training data that are spread evenly over the shards, or why there are none."""
    ends = np.cumsum([shard["samples"] for shard in manifest["shards"]], dtype=int)
    if not len(ends):
        return [], "the manifest names no shards"
    found = []
    try:
        for place in spread(int(ends[-1]), SHOWN):
            number = int(np.searchsorted(ends, place, side="right"))
            start = int(ends[number - 1]) if number else 0
            found.append(example(open_shard(data / "shards", manifest["shards"][number]), place - start))
    except (ValueError, OSError) as error:
        return [], str(error)
    return found, None
