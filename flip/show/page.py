"""Render what a viewer computes as one self-contained HTML file without scripts."""

import io
from base64 import b64encode
from typing import Any

import numpy as np
import torch
from PIL import Image

from flip.data.contact_sheet import cell
from flip.evaluate.kinds.pointing import heated
from flip.evaluate.reconstruction import GREY
from flip.report.html import templates
from flip.show.viewer import Match, SearchedSet, ShownImage, Viewer

BARS = 8  # classes that are listed
LEAST = 288  # pixels that small images are enlarged to


def png(pixels: np.ndarray) -> str:
    """Encode an image uint8 [height, width, 3] as PNG in a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def patches_of(pixels: np.ndarray, patch: int, kept: np.ndarray | None = None, gap: int = 2) -> np.ndarray:
    """Draw the patches of an image [side, side, 3] with `gap` white pixels between them: uint8 [height, width, 3].

    `kept` are the indices of patches that are not masked; the others are grey. Small images are enlarged, each pixel to
    a square.
    """
    grid, zoom = len(pixels) // patch, max(LEAST // len(pixels), 1)
    cells = pixels.reshape(grid, patch, grid, patch, 3).swapaxes(1, 2).copy()
    if kept is not None:
        removed = np.setdiff1d(np.arange(grid**2), kept)
        cells[removed // grid, removed % grid] = GREY
    cells = cells.repeat(zoom, axis=2).repeat(zoom, axis=3)
    cells = np.pad(cells, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return cells.swapaxes(1, 2).reshape(grid * (patch * zoom + gap), -1, 3)[:-gap, :-gap]


def match_facts(match: Match) -> dict[str, Any]:
    """Return what the page shows of a match."""
    shown = match.shown
    return {"image": png(shown.pixels), "cosine": match.cosine, "words": shown.words, "source": shown.source}


def score_facts(viewer: Viewer, shown: ShownImage, test_set: SearchedSet) -> dict[str, Any]:
    """Return zero-shot scores of the best classes and of the image's own, from all patches and from the kept ones."""
    classes = viewer.classes(test_set.name)
    kept = viewer.kept(shown)
    views = [None] if kept is None else [None, kept.to(viewer.device)]
    features = torch.cat([viewer.image(shown.pixels[None], ids) for ids in views])
    scores = viewer.scores(test_set.name, features)
    order = scores[0].argsort(descending=True).tolist()
    own = classes.index(shown.words) if shown.words and shown.words in classes else None
    listed = order[:BARS] + ([] if own is None or own in order[:BARS] else [own])
    rows = [
        {"name": classes[one], "rank": order.index(one) + 1, "own": one == own, "scores": scores[:, one].tolist()}
        for one in listed
    ]
    return {"set": test_set.name, "classes": len(classes), "rows": rows}


def patch_facts(viewer: Viewer, shown: ShownImage, words: str) -> dict[str, Any]:
    """Return the patches of an image, those that a mask keeps, and reconstructions, as far as the variant has them."""
    params, kept = viewer.params, viewer.kept(shown)
    patch = params.model.patch
    after = None if kept is None else png(patches_of(shown.pixels, patch, kept[0].numpy()))
    drawings = [tuple(png(patches_of(one, patch)) for one in two) for two in viewer.drawings(shown, words)]
    return {"before": png(patches_of(shown.pixels, patch)), "after": after, "drawings": drawings}


def relevance_facts(viewer: Viewer, shown: ShownImage, sentence: str) -> dict[str, Any]:
    """Return the cosine of each patch with the sentence as a heat map, and that of the whole image."""
    found = viewer.relevance(shown, sentence)
    cosine = (viewer.image(shown.pixels[None]) @ viewer.text([sentence]).T).item()
    image = png(heated(cell(shown.pixels), found).repeat(LEAST // 96, 0).repeat(LEAST // 96, 1))
    return {"image": image, "low": found.min(), "high": found.max(), "cosine": cosine}


def facts(
    viewer: Viewer, shown: ShownImage, sentence: str | None, matches: list[Match], test_sets: list[SearchedSet]
) -> dict[str, Any]:
    """Return all that the page shows; comparisons with a sentence need a common space of images and texts."""
    aligned = viewer.params.aligned
    classified = [one for one in test_sets if aligned and one.has_classes]
    return {
        "matches": [match_facts(match) for match in matches],
        "scores": [score_facts(viewer, shown, test_set) for test_set in classified],
        "patches": patch_facts(viewer, shown, sentence or shown.words or ""),
        "relevance": relevance_facts(viewer, shown, sentence) if aligned and sentence else None,
        "spelled": viewer.spelled(sentence) if aligned and sentence else None,
    }


def render(
    viewer: Viewer, shown: ShownImage, sentence: str | None, matches: list[Match], test_sets: list[SearchedSet]
) -> str:
    """Return the HTML page."""
    template = templates("flip.show").get_template("page.html")
    return template.render(
        viewer=viewer,
        params=viewer.params,
        trained=viewer.trained,
        shown=shown,
        image=png(shown.pixels),
        sentence=sentence,
        searched=[(test_set.name, len(test_set.words)) for test_set in test_sets],
        **facts(viewer, shown, sentence, matches, test_sets),
    )
