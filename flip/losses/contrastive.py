"""Compute InfoNCE between the images and captions of a batch (CLIP; FLIP, section 3)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from flip.losses.objective import Batch, Objective, Scope, Setting
from flip.losses.tiling import SINGLE_PROCESS, BatchGroup, add_products, inner, pick_side, tiles
from flip.model.transformer import full_precision


class ContrastiveObjective(Objective):
    """Average the image-to-text and text-to-image cross entropies over the global batch."""

    scope = Scope.GLOBAL_BATCH  # every pair is a negative of every other
    gathers_images = True

    def __init__(self, setting: Setting):
        self.weight, self.group = setting.params.contrastive.weight, setting.group

    def __call__(self, batch: Batch, outputs: dict[str, Any]) -> dict[str, Tensor]:
        image, text, scale = (outputs[name] for name in ("image", "text", "scale"))
        loss = info_nce(image, text, scale, group=self.group, gathered=outputs.get("gathered"))
        if "second" in outputs:
            loss = (loss + info_nce(outputs["second"], text, scale, group=self.group)) / 2
        return {"contrastive": self.weight * loss}


def info_nce(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    side: int | None = None,
    group: BatchGroup = SINGLE_PROCESS,
    gathered: Callable | None = None,
) -> Tensor:
    """Compute InfoNCE (van den Oord et al. 2018; CLIP, Radford et al. 2021, Figure 3) of image and text features
    [pairs, width] of unit length and a scalar logit scale; in float32 at least.

    `side` is that of the tiles; None computes small batches from the full logits and picks a side for large ones. The
    tiled form has first derivatives only. Where `group` has several processes, each holds its pairs and gets its part
    of the loss, a sum; `gathered` waits for the image features of all processes, whose all-gather may have been started
    earlier (`group.all_gather_async`).
    """
    image, text = full_precision(image), full_precision(text)
    side = pick_side(image, side, group.size)
    if side is None:
        return dense_info_nce(image, text, scale)
    images = gathered() if gathered else group.all_gather(image)
    return TiledInfoNCE.apply(text, images, scale, side, group)


def dense_info_nce(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Compute InfoNCE of features [pairs, width] of unit length from the full matrix of logits."""
    logits = scale * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def normalizers(text: Tensor, images: Tensor, scale: Tensor, side: int, group: BatchGroup) -> tuple[Tensor, Tensor]:
    """Compute the log-sum-exp of the logits over each row [own] and over each column [pairs], in one pass over the
    tiles."""
    over_rows, over_columns = (text.new_full((len(x),), -torch.inf) for x in (text, images))
    for rows, columns, _ in tiles(len(text), group, side):
        logits = (scale * text[rows]) @ images[columns].T
        over_rows[rows] = torch.logaddexp(over_rows[rows], logits.logsumexp(1))
        over_columns[columns] = torch.logaddexp(over_columns[columns], logits.logsumexp(0))
    return over_rows, group.logsumexp(over_columns)


class TiledInfoNCE(torch.autograd.Function):
    """Compute InfoNCE in tiles, with four matrix products in all: the logits twice, as gradients need the columns'
    normalizers.

    A process computes its captions' rows of the matrix against all images, so that only image features are gathered and
    no product is computed twice; of the columns, processes exchange the normalizers.
    """

    @staticmethod
    def forward(ctx: Any, text: Tensor, images: Tensor, scale: Tensor, side: int, group: BatchGroup) -> Tensor:
        over_rows, over_columns = normalizers(text, images, scale, side, group)
        own = slice(group.rank * len(text), (group.rank + 1) * len(text))
        matched = scale * torch.einsum("ij,ij->i", text, images[own])
        ctx.save_for_backward(text, images, scale, over_rows, over_columns)
        ctx.side, ctx.group = side, group
        return ((over_rows + over_columns[own]) / 2 - matched).sum() / len(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        text, images, scale, over_rows, over_columns = ctx.saved_tensors
        text_sum, images_sum = torch.zeros_like(text), torch.zeros_like(images)
        for tile in tiles(len(text), ctx.group, ctx.side):
            rows, columns = tile.rows, tile.columns
            logits = (scale * text[rows]) @ images[columns].T
            weight = (logits - over_rows[rows, None]).exp_()
            weight += logits.sub_(over_columns[columns]).exp_()
            tile.diagonal(weight).sub_(2)  # the matched pair, in both directions
            add_products(text_sum[rows], images_sum[columns], weight, text[rows], images[columns])
        factor = gradient / (2 * len(images))
        scale_gradient = factor * inner(text, text_sum)
        return text_sum.mul_(factor * scale), images_sum.mul_(factor * scale), scale_gradient, None, None
