"""InfoNCE between the pictures and captions of a batch (CLIP; FLIP, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from flip.model.precision import full_precision
from flip.objectives.blocks import add_products, inner, pick_side, strips


class Contrastive:
    """Mean of the image-to-text and text-to-image cross entropies over the global batch."""

    joint = True  # every pair is a negative of every other: the loss of a batch is not a mean over its parts

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"contrastive": self.weight * info_nce(outputs["image"], outputs["text"], outputs["scale"])}


def info_nce(image: Tensor, text: Tensor, scale: Tensor, side: int | None = None) -> Tensor:
    """InfoNCE of features [pairs, width] of unit length and a scalar logit scale; computed in float32 at least.

    `side` is that of the tiles; None takes small batches whole and picks one for large ones. The tiled form has first
    derivatives only.
    """
    image, text = full_precision(image), full_precision(text)
    side = pick_side(image, side)
    return TiledInfoNCE.apply(image, text, scale, side) if side else whole(image, text, scale)


def whole(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def normalizers(image: Tensor, text: Tensor, scale: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of the logits over each row and over each column, [pairs] each, in one pass over the tiles."""
    over_rows, over_columns = (image.new_full((len(image),), -torch.inf) for _ in range(2))
    for rows in strips(len(image), side):
        scaled = scale * image[rows]
        for columns in strips(len(text), side):
            logits = scaled @ text[columns].T
            over_rows[rows] = torch.logaddexp(over_rows[rows], logits.logsumexp(1))
            over_columns[columns] = torch.logaddexp(over_columns[columns], logits.logsumexp(0))
    return over_rows, over_columns


class TiledInfoNCE(torch.autograd.Function):
    """Four matrix products in all: the logits twice, since the gradients need the columns' normalizers."""

    @staticmethod
    def forward(ctx, image, text, scale, side):
        over_rows, over_columns = normalizers(image, text, scale, side)
        matched = scale * torch.einsum("ij,ij->i", image, text)
        ctx.save_for_backward(image, text, scale, over_rows, over_columns)
        ctx.side = side
        return ((over_rows + over_columns) / 2 - matched).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        image, text, scale, over_rows, over_columns = ctx.saved_tensors
        image_sum, text_sum = torch.zeros_like(image), torch.zeros_like(text)
        for rows in strips(len(image), ctx.side):
            scaled = scale * image[rows]
            for columns in strips(len(text), ctx.side):
                logits = scaled @ text[columns].T
                weight = (logits - over_rows[rows, None]).exp_()
                weight += logits.sub_(over_columns[columns]).exp_()
                if rows == columns:
                    weight.diagonal().sub_(2)  # the matched pair, in both directions
                add_products(image_sum[rows], text_sum[columns], weight, image[rows], text[columns])
        factor = gradient / (2 * len(image))
        scale_gradient = factor * inner(image, image_sum)
        return image_sum.mul_(factor * scale), text_sum.mul_(factor * scale), scale_gradient, None
