"""What a viewer sees, as one self-contained HTML page: no script, nothing loaded from elsewhere."""

import io
from base64 import b64encode

import numpy as np
import torch
from PIL import Image

from flip.data.contact_sheet import cell
from flip.evaluate.kinds.pointing import heated
from flip.evaluate.reconstruction import GREY
from flip.report.html import templates
from flip.show.viewer import Match, Picture, Shelf, Viewer
from flip.testsets.reader import prompts, set_folder

BARS = 8  # classes that are shown
LEAST = 288  # pixels that small pictures are enlarged to


def png(pixels: np.ndarray) -> str:
    """A picture uint8 [height, width, 3] as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def patches_of(pixels: np.ndarray, patch: int, kept=None, gap: int = 2) -> np.ndarray:
    """uint8 [height, width, 3]: a picture's patches with white between them; those that are not kept are grey. Small
    pictures are enlarged, each pixel a square."""
    grid, zoom = len(pixels) // patch, max(LEAST // len(pixels), 1)
    cells = pixels.reshape(grid, patch, grid, patch, 3).swapaxes(1, 2).copy()
    if kept is not None:
        removed = np.setdiff1d(np.arange(grid**2), kept)
        cells[removed // grid, removed % grid] = GREY
    cells = cells.repeat(zoom, axis=2).repeat(zoom, axis=3)
    cells = np.pad(cells, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    return cells.swapaxes(1, 2).reshape(grid * (patch * zoom + gap), -1, 3)[:-gap, :-gap]


def match_facts(match: Match) -> dict:
    picture = match.picture
    return {"image": png(picture.pixels), "cosine": match.cosine, "words": picture.words, "source": picture.source}


def score_facts(viewer: Viewer, picture: Picture, shelf: Shelf) -> dict:
    """Zero-shot scores of the best classes and of the picture's own, from all of its patches and from those that a mask
    leaves."""
    classes, _ = prompts(set_folder(viewer.params, viewer.data, shelf.name))
    kept = viewer.kept(picture)
    views = [None] if kept is None else [None, kept.to(viewer.device)]
    features = torch.cat([viewer.image(picture.pixels[None], ids) for ids in views])
    scores = viewer.scores(shelf.name, features)
    order = scores[0].argsort(descending=True).tolist()
    own = classes.index(picture.words) if picture.words in classes else None
    shown = order[:BARS] + ([] if own is None or own in order[:BARS] else [own])
    rows = [
        {"name": classes[one], "rank": order.index(one) + 1, "own": one == own, "scores": scores[:, one].tolist()}
        for one in shown
    ]
    return {"set": shelf.name, "classes": len(classes), "rows": rows}


def patch_facts(viewer: Viewer, picture: Picture, words: str) -> dict:
    """The picture's patches, those that a mask leaves, and what the model draws, where it masks or draws."""
    params, kept = viewer.params, viewer.kept(picture)
    patch = params.model.patch
    after = None if kept is None else png(patches_of(picture.pixels, patch, kept[0].numpy()))
    drawings = [tuple(png(patches_of(one, patch)) for one in two) for two in viewer.drawings(picture, words)]
    return {"before": png(patches_of(picture.pixels, patch)), "after": after, "drawings": drawings}


def relevance_facts(viewer: Viewer, picture: Picture, sentence: str) -> dict:
    found = viewer.relevance(picture, sentence)
    cosine = (viewer.image(picture.pixels[None]) @ viewer.text([sentence]).T).item()
    image = png(heated(cell(picture.pixels), found).repeat(LEAST // 96, 0).repeat(LEAST // 96, 1))
    return {"image": image, "low": found.min(), "high": found.max(), "cosine": cosine}


def facts(viewer: Viewer, picture: Picture, sentence: str | None, matches: list[Match], shelves: list[Shelf]) -> dict:
    """All that the page shows. Without a common space there is nothing to compare a sentence with."""
    able = viewer.params.aligned
    return {
        "matches": [match_facts(match) for match in matches],
        "scores": [score_facts(viewer, picture, shelf) for shelf in shelves if able and shelf.has_classes],
        "patches": patch_facts(viewer, picture, sentence or picture.words or ""),
        "relevance": relevance_facts(viewer, picture, sentence) if able else None,
        "spelled": viewer.spelled(sentence) if able else None,
    }


def render(viewer: Viewer, picture: Picture, sentence: str | None, matches: list[Match], shelves: list[Shelf]) -> str:
    template = templates("flip.show").get_template("page.html")
    return template.render(
        viewer=viewer,
        params=viewer.params,
        trained=viewer.trained,
        picture=picture,
        image=png(picture.pixels),
        sentence=sentence,
        searched=[(shelf.name, len(shelf.words)) for shelf in shelves],
        **facts(viewer, picture, sentence, matches, shelves),
    )
