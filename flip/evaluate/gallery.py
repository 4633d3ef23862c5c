"""Retrieval to look at: the pictures that fit some captions of a test set best, the right ones and the wrong ones."""

import cv2
import numpy as np
import torch

from flip.data.contact_sheet import HIT, LINES, MISS, SHOWN, SIDE, TEXT, WHITE, cell, label, sheet, spread, webp
from flip.evaluate import retrieval
from flip.evaluate.distinct import exact
from flip.evaluate.encoders import Full
from flip.model.two_towers import TwoTowers

TOP = 4  # pictures below a caption
EDGE = 5  # pixels


def edged(picture: np.ndarray, right: bool) -> np.ndarray:
    """A cell in the colour of a right or a wrong answer; that of a right one has a tick, too."""
    found = cv2.copyMakeBorder(
        picture[EDGE:-EDGE, EDGE:-EDGE], *(EDGE,) * 4, cv2.BORDER_CONSTANT, value=(HIT if right else MISS)[1]
    )
    if right:
        corner = SIDE - 26
        found[corner:, corner:] = HIT[1]
        tick = np.array([(corner + 6, corner + 13), (corner + 11, corner + 19), (corner + 20, corner + 7)])
        found = cv2.polylines(np.ascontiguousarray(found), [tick], False, (WHITE,) * 3, 2, cv2.LINE_AA)
    return found


def headed(caption: str, rank: int) -> np.ndarray:
    """The caption and its picture's rank, as high as any other."""
    words = label(caption, f"right: no. {rank}", (HIT if rank == 1 else MISS)[1])
    return np.pad(words, [(0, TEXT * (LINES + 1) - len(words)), (0, 0), (0, 0)], constant_values=WHITE)


def chosen(loader, captions: list[int], pictures: set[int]) -> tuple[list[str], dict[int, np.ndarray]]:
    """The texts of captions, and pictures as cells, by their places in the set."""
    texts, cells, seen = [], {}, 0
    for images, groups in loader:
        texts += [text for group in groups for text in group]
        places = range(seen, seen + len(images))
        cells |= {place: cell(images[place - seen].numpy()) for place in places if place in pictures}
        seen += len(images)
    return [texts[place] for place in captions], cells


@torch.no_grad()
def best_matches(model: TwoTowers, tokenize, loader, device: str) -> tuple[bytes, dict]:
    """A sheet (WebP) of a set's captions with the pictures that fit them best, and facts about it: which captions, and
    which rank the right picture of each has among all. `loader` gives pictures and captions, and is read twice."""
    images, texts, owners = retrieval.embed(Full(model), tokenize, loader, device)
    places = spread(len(texts), SHOWN)
    ranks = retrieval.ranks(images, texts, owners)[0][places].tolist()
    scores, right = exact(texts[places]) @ exact(images).T, owners[places]
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :TOP].tolist()
    captions, cells = chosen(loader, places, {picture for row in best for picture in row})
    stacks = [
        [headed(caption, rank), *(edged(cells[picture], picture == own) for picture in row)]
        for caption, rank, own, row in zip(captions, ranks, right.tolist(), best, strict=True)
    ]
    facts = {"kind": "retrieval", "subjects": captions, "ranks": ranks, "pictures": len(images), "top": len(best[0])}
    return webp(sheet(stacks)), facts
