"""Draw retrieval: the images that fit some captions of a test set best, right and wrong ones."""

import cv2
import numpy as np
import torch

from flip.data.contact_sheet import HIT, LINES, MISS, SHOWN, SIDE, TEXT, WHITE, cell, label, sheet, spread, webp
from flip.evaluate import retrieval
from flip.evaluate.distinct import exact
from flip.evaluate.encoders import Full, ImageLoader, Tokenize
from flip.model.two_towers import TwoTowers

TOP = 4  # images below a caption
EDGE = 5  # pixels


def edged(image: np.ndarray, right: bool) -> np.ndarray:
    """Frame a cell, uint8 [side, side, 3], in the colour of a right or a wrong answer; a right one has a tick, too."""
    found = cv2.copyMakeBorder(
        image[EDGE:-EDGE, EDGE:-EDGE], *(EDGE,) * 4, cv2.BORDER_CONSTANT, value=(HIT if right else MISS)[1]
    )
    if right:
        corner = SIDE - 26
        found[corner:, corner:] = HIT[1]
        tick = np.array([(corner + 6, corner + 13), (corner + 11, corner + 19), (corner + 20, corner + 7)])
        found = cv2.polylines(np.ascontiguousarray(found), [tick], False, (WHITE,) * 3, 2, cv2.LINE_AA)
    return found


def headed(caption: str, rank: int) -> np.ndarray:
    """Draw the caption and its image's rank, as a cell: uint8 [height, side, 3]."""
    words = label(caption, f"right: no. {rank}", (HIT if rank == 1 else MISS)[1])
    return np.pad(words, [(0, TEXT * (LINES + 1) - len(words)), (0, 0), (0, 0)], constant_values=WHITE)


def chosen(loader: ImageLoader, captions: list[int], wanted: set[int]) -> tuple[list[str], dict[int, np.ndarray]]:
    """Return the texts of captions, and images as cells uint8 [side, side, 3], by their indices in the set."""
    texts: list[str] = []
    cells: dict[int, np.ndarray] = {}
    seen = 0
    for images, groups in loader:
        texts += [text for group in groups for text in group]
        places = range(seen, seen + len(images))
        cells |= {place: cell(images[place - seen].numpy()) for place in places if place in wanted}
        seen += len(images)
    return [texts[place] for place in captions], cells


@torch.no_grad()
def best_matches(model: TwoTowers, tokenize: Tokenize, loader: ImageLoader, device: str) -> tuple[bytes, dict]:
    """Draw a sheet (WebP) of a set's captions with the images that fit them best, and return facts about it: the
    captions, and the rank of the right image of each among all. `loader` gives images and captions, and is read twice.
    """
    images, texts, owners = retrieval.embed(Full(model), tokenize, loader, device)
    places = spread(len(texts), SHOWN)
    ranks = retrieval.ranks(images, texts, owners)[0][places].tolist()
    scores, right = exact(texts[places]) @ exact(images).T, owners[places]
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :TOP].tolist()
    captions, cells = chosen(loader, places, {image for row in best for image in row})
    stacks = [
        [headed(caption, rank), *(edged(cells[image], image == own) for image in row)]
        for caption, rank, own, row in zip(captions, ranks, right.tolist(), best, strict=True)
    ]
    facts = {"kind": "retrieval", "subjects": captions, "ranks": ranks, "images": len(images), "top": len(best[0])}
    return webp(sheet(stacks)), facts
