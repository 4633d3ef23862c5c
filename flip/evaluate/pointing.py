"""Where a model looks: how well each patch fits a caption, and whether the best one shows what the caption names.

Pointing accuracy is that of the pointing game (Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop").
The best patch is a hit if its centre lies in the box. There is no tolerance around boxes, as objects are larger than
patches: so a random map scores the boxes' share of the picture.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.data.boxes import samples
from flip.evaluate.sets import to_square
from flip.model.two_towers import TwoTowers


def relevance(model: TwoTowers, images: Tensor, text: Tensor) -> Tensor:
    """Cosine of each patch with its picture's caption [pictures, grid, grid].

    `images` are uint8 [pictures, height, width, 3], `text` are features [pictures, embedding] of any length.

    Each patch is pooled and projected as if it were the picture's only one: one meaning for all poolings. With mean
    pooling, the picture's feature is the mean of what is compared here; with max pooling, its channels are chosen from
    the same tokens. Beside a class token, patches take its projection, through which no loss ever saw them. Attention
    pooling of a single token has nothing to weigh: it gives what the token has to say, and leaves out how much the
    picture's feature takes of it, which is the same for every caption.
    """
    tokens = model.vision.patches(model.vision(images))  # [pictures, patches, width]
    alone = model.project_image(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
    cosines = (F.normalize(alone, dim=-1) * F.normalize(text, dim=-1)[:, None]).sum(dim=-1)
    return cosines.unflatten(1, (model.params.model.grid, -1))


def hits(maps: Tensor, boxes: Tensor) -> Tensor:
    """Whether the centre of the most relevant patch lies in the box: bool [pictures].

    Maps are [pictures, grid, grid], boxes [pictures, 4] left, top, right and bottom as shares of the picture's sides.
    """
    grid = maps.shape[-1]
    best = maps.flatten(1).argmax(dim=1)
    x, y = ((place + 0.5) / grid for place in (best % grid, best // grid))
    left, top, right, bottom = boxes.unbind(dim=1)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


@torch.no_grad()
def outcomes(model: TwoTowers, tokenize, folder: Path, device: str, batch: int) -> np.ndarray:
    """1 where the model points at what is named, else 0: float32 [pictures]."""
    found, side = [], model.params.model.image
    for tar in sorted((folder / "test").glob("*.tar"), key=lambda path: int(path.stem)):
        pictures = list(samples(tar))
        for start in range(0, len(pictures), batch):
            some = pictures[start : start + batch]
            images = torch.stack([to_square(sample.picture, side) for sample in some]).to(device)
            text = model.encode_text(tokenize([sample.caption for sample in some]).to(device))
            found.append(hits(relevance(model, images, text).cpu(), torch.tensor([sample.square for sample in some])))
    return torch.cat(found).numpy().astype(np.float32)
