"""Measure pointing: how well each patch fits a caption, and whether the best one shows what the caption names.

Pointing accuracy is that of the pointing game (Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop").
The best patch is a hit if its centre lies in the box. There is no tolerance around boxes, as objects are larger than
patches: so a random map scores the boxes' share of the image.
"""

from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.kinds.pointing import Sample, samples
from flip.data.contact_sheet import HIT, MISS, SHOWN, SIDE, cell, label, sheet, spread, webp
from flip.evaluate.distinct import Firsts
from flip.evaluate.encoders import Tokenize
from flip.evaluate.trial import Trial
from flip.formats.layout import tars
from flip.formats.tar_members import members
from flip.metrics.scoring import by_image
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import to_square


def relevance(model: TwoTowers, images: Tensor, text: Tensor) -> Tensor:
    """Compute the cosine of each patch with its image's caption [images, grid, grid].

    `images` are uint8 [images, height, width, 3], `text` are features [images, embedding] of any length.

    Each patch is pooled and projected as if it were the image's only one: one meaning for all poolings. With mean
    pooling, the image's feature is the mean of what is compared here; with max pooling, its channels are chosen from
    the same tokens. Beside a class token, patches take its projection, through which no loss ever saw them. Attention
    pooling of a single token has nothing to weigh: it gives what the token has to say, and leaves out how much the
    image's feature takes of it, which is the same for every caption.
    """
    assert model.vision is not None
    tokens = model.vision.patches(model.vision(images))  # [images, patches, width]
    alone = model.project_image(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
    cosines = (F.normalize(alone, dim=-1) * F.normalize(text, dim=-1)[:, None]).sum(dim=-1)
    return cosines.unflatten(1, (model.params.model.grid, -1))


def hits(maps: Tensor, boxes: Tensor) -> Tensor:
    """Return whether the centre of the most relevant patch lies in the box: bool [images]; False where a map has NaN.

    Maps are [images, grid, grid], boxes [images, 4] left, top, right and bottom as shares of the image's sides.
    """
    grid = maps.shape[-1]
    best = maps.flatten(1).argmax(dim=1)
    x, y = ((place + 0.5) / grid for place in (best % grid, best // grid))
    left, top, right, bottom = boxes.unbind(dim=1)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom) & ~maps.isnan().flatten(1).any(dim=1)


@torch.no_grad()
def outcomes(model: TwoTowers, tokenize: Tokenize, folder: Path, device: str, batch: int) -> np.ndarray:
    """Return 1 where the model points at what is named, else 0, [images], as `by_image` stores it: an image may be
    there with several boxes."""
    found, alike, side = [], Firsts(), model.params.model.image
    for tar in tars(folder):
        every = list(samples(tar))
        for start in range(0, len(every), batch):
            some = every[start : start + batch]
            images = torch.stack([to_square(sample.image, side) for sample in some])
            alike.add(images)
            text = model.encode_text(tokenize([sample.caption for sample in some]).to(device))
            found.append(
                hits(relevance(model, images.to(device), text).cpu(), torch.tensor([sample.square for sample in some]))
            )
    return by_image(torch.cat(found).numpy(), alike.places.numpy())


def framed(image: np.ndarray, square: tuple[float, ...]) -> np.ndarray:
    """Draw a box on a cell, uint8 [side, side, 3], its edges as shares of the sides: white next to black, visible on
    any image."""
    image = image.copy()  # which is drawn into
    left, top, right, bottom = (round(edge * (SIDE - 1)) for edge in square)
    for value, thickness in ((0, 3), (255, 1)):
        image = cv2.rectangle(image, (left, top), (right, bottom), (value,) * 3, thickness)
    return image


def heated(image: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Draw a cell in grey under the colours of its map [grid, grid], dark where it is lowest; a ring on the best
    patch."""
    low, high = relevance.min(), relevance.max()
    scaled = (255 * (relevance - low) / max(high - low, 1e-12)).astype(np.uint8)
    colours = cv2.applyColorMap(cv2.resize(scaled, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    found = cv2.addWeighted(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), 0.55, grey, 0.45, 0)
    row, column = np.unravel_index(relevance.argmax(), relevance.shape)
    centre = [round((place + 0.5) * SIDE / len(relevance)) for place in (column, row)]
    for value, thickness in ((0, 3), (255, 1)):
        found = cv2.circle(found, centre, 5, (value,) * 3, thickness)
    return found


def chosen(folder: Path) -> list[Sample]:
    """Return the set's images that are shown."""
    places = set(spread(sum(len(members(tar)) for tar in tars(folder)), SHOWN))
    every = chain.from_iterable(map(samples, tars(folder)))
    return [sample for place, sample in enumerate(every) if place in places]


@torch.no_grad()
def maps_of(model: TwoTowers, tokenize: Tokenize, folder: Path, device: str) -> tuple[bytes, dict]:
    """Draw a sheet (WebP) of relevance maps of test images, and return facts about it: which captions, which are
    hits."""
    shown = chosen(folder)
    images = torch.stack([to_square(sample.image, model.params.model.image) for sample in shown])
    text = model.encode_text(tokenize([sample.caption for sample in shown]).to(device))
    maps = relevance(model, images.to(device), text).cpu()
    right = hits(maps, torch.tensor([sample.square for sample in shown])).tolist()
    stacks = []
    for sample, image, one, hit in zip(shown, images.numpy(), maps.numpy(), right, strict=True):
        drawn, square = cell(image), sample.square
        below = label(sample.caption, *(HIT if hit else MISS))
        stacks.append([framed(drawn, square), framed(heated(drawn, one), square), below])
    facts = {"kind": "relevance", "subjects": [sample.caption for sample in shown], "hits": right}
    return webp(sheet(stacks)), facts


def measure(trial: Trial) -> dict[str, np.ndarray]:
    """Return `outcomes` [images] under "", if the model has a space for both sides."""
    if not trial.params.aligned:
        return {}
    batch = trial.params.evaluate.batch
    return {"": outcomes(trial.model, trial.tokenize, trial.folder, trial.device, batch)}


def show(trial: Trial) -> tuple[str, bytes, dict]:
    """Return a sheet of relevance maps."""
    return "relevance", *maps_of(trial.model, trial.tokenize, trial.folder, trial.device)
