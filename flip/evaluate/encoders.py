"""Encode images as clip-benchmark asks a model to, full ones and masked ones (FLIP, Table 1d)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flip.model.masking import complementary
from flip.model.two_towers import TwoTowers

Tokenize = Callable[[list[str]], Tensor]  # texts -> token ids int64 [texts, tokens]
ImageLoader = Iterable[tuple[Tensor, Any]]  # batches of images uint8 [batch, side, side, 3] and targets


class Full:
    """Encode images without masking."""

    def __init__(self, model: TwoTowers) -> None:
        self.model = model
        self.encode_text = model.encode_text

    def encode_image(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


class Cached(Full):
    """Encode images without masking, given as their pooled features."""

    def encode_image(self, pooled: Tensor) -> Tensor:
        return self.model.image_projection(pooled)


class Masked(Full):
    """Encode images masked as in training; image i of a set always has the same mask."""

    def __init__(self, model: TwoTowers, seed: int) -> None:
        super().__init__(model)
        self.seed = seed
        self.seen = 0

    def views(self, images: Tensor) -> list[Tensor]:
        """Return complementary ids_keep [images, kept] for the next images of the set; the first is the training's
        mask."""
        positions = torch.arange(self.seen, self.seen + len(images), device=images.device)
        self.seen += len(images)
        return complementary(self.model.mask_order(images, positions, self.seed), self.model.params.kept_patches)

    def encode_image(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images, self.views(images)[0])


class Ensemble(Masked):
    """Return the mean of the unit features of complementary masked views (the paper does not state how it combines
    them)."""

    def encode_image(self, images: Tensor) -> Tensor:
        views = self.views(images)
        units = (F.normalize(self.model.encode_image(images, ids_keep), dim=-1) for ids_keep in views)
        return sum(units) / len(views)  # type: ignore[return-value]  # there is at least one
