"""InfoNCE between the pictures and captions of a batch (CLIP; FLIP, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from flip.model.precision import full_precision
from flip.objectives.blocks import ALONE, add_products, inner, pick_side, tiles


class Contrastive:
    """Mean of the image-to-text and text-to-image cross entropies over the global batch."""

    joint = True  # every pair is a negative of every other: the loss of a batch is not a mean over its parts

    def __init__(self, weight: float = 1.0, world=ALONE):
        self.weight, self.world = weight, world

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = info_nce(outputs["image"], outputs["text"], outputs["scale"], world=self.world)
        return {"contrastive": self.weight * loss}


def info_nce(image: Tensor, text: Tensor, scale: Tensor, side: int | None = None, world=ALONE) -> Tensor:
    """InfoNCE of features [pairs, width] of unit length and a scalar logit scale; computed in float32 at least.

    `side` is that of the tiles; None takes small batches whole and picks one for large ones. The tiled form has first
    derivatives only. Where `world` has several processes, each holds its pairs and gets its part of the loss, a sum.
    """
    image, text = full_precision(image), full_precision(text)
    side = pick_side(image, side)
    if side is None and world.size == 1:
        return whole(image, text, scale)
    return TiledInfoNCE.apply(image, world.gather(text), scale, side or len(image), world)


def whole(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def normalizers(image: Tensor, text: Tensor, scale: Tensor, side: int, world) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of the logits over each row [own] and over each column [pairs], in one pass over the tiles."""
    over_rows, over_columns = (image.new_full((len(x),), -torch.inf) for x in (image, text))
    for rows, columns, _ in tiles(len(image), world, side):
        logits = (scale * image[rows]) @ text[columns].T
        over_rows[rows] = torch.logaddexp(over_rows[rows], logits.logsumexp(1))
        over_columns[columns] = torch.logaddexp(over_columns[columns], logits.logsumexp(0))
    return over_rows, world.logsumexp(over_columns)


class TiledInfoNCE(torch.autograd.Function):
    """Four matrix products in all: the logits twice, since the gradients need the columns' normalizers.

    A process takes its pictures' rows of the matrix against all captions, so that captions alone have to be gathered
    and no product is computed twice; of the columns, processes exchange the normalizers.
    """

    @staticmethod
    def forward(ctx, image, text, scale, side, world):
        over_rows, over_columns = normalizers(image, text, scale, side, world)
        own = slice(world.rank * len(image), (world.rank + 1) * len(image))
        matched = scale * torch.einsum("ij,ij->i", image, text[own])
        ctx.save_for_backward(image, text, scale, over_rows, over_columns)
        ctx.side, ctx.world = side, world
        return ((over_rows + over_columns[own]) / 2 - matched).sum() / len(text)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        image, text, scale, over_rows, over_columns = ctx.saved_tensors
        image_sum, text_sum = torch.zeros_like(image), torch.zeros_like(text)
        for rows, columns, matched in tiles(len(image), ctx.world, ctx.side):
            logits = (scale * image[rows]) @ text[columns].T
            weight = (logits - over_rows[rows, None]).exp_()
            weight += logits.sub_(over_columns[columns]).exp_()
            if matched:
                weight.diagonal().sub_(2)  # the matched pair, in both directions
            add_products(image_sum[rows], text_sum[columns], weight, image[rows], text[columns])
        factor = gradient / (2 * len(text))
        scale_gradient = factor * inner(image, image_sum)
        return image_sum.mul_(factor * scale), text_sum.mul_(factor * scale), scale_gradient, None, None
