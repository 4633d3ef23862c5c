"""Compute the pairwise sigmoid loss (SigLIP, Zhai et al. 2023, Algorithm 1).

The paper's displayed equation has the bias with the opposite sign; this follows its algorithm, as all code does.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from flip.losses.objective import Batch, Objective, Scope, Setting
from flip.losses.tiling import SINGLE_PROCESS, BatchGroup, Tile, add_products, inner, pick_side, tiles
from flip.model.transformer import full_precision


class SigmoidObjective(Objective):
    """Classify each pair of an image and a caption by itself; sum over captions, average over images."""

    scope = Scope.GLOBAL_BATCH  # every pair is a negative of every other

    def __init__(self, setting: Setting):
        self.weight, self.group = setting.params.sigmoid.weight, setting.group

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image, text, scale = (outputs[name] for name in ("image", "text", "scale"))
        bias = outputs["bias"] if "bias" in outputs else scale.new_zeros(())
        loss = pairwise_sigmoid(image, text, scale, bias, group=self.group)
        if "second" in outputs:
            loss = (loss + pairwise_sigmoid(outputs["second"], text, scale, bias, group=self.group)) / 2
        return {"sigmoid": self.weight * loss}


def pairwise_sigmoid(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    bias: Tensor,
    side: int | None = None,
    group: BatchGroup = SINGLE_PROCESS,
) -> Tensor:
    """Compute the sigmoid loss (SigLIP, Algorithm 1) of image and text features [pairs, width] of unit length, with
    scalar logit scale and bias; in float32 at least.

    `side` is that of the tiles; None computes small batches from the full logits and picks a side for large ones. The
    tiled form has first derivatives only, and gives them once. Where `group` has several processes, each holds its
    pairs and gets its part of the loss, a sum: its images' rows of the matrix against all captions. All must give their
    parts one weight.

    Raises:
        RuntimeError: a second backward pass through the tiled form.
    """
    image, text = full_precision(image), full_precision(text)
    side = pick_side(image, side, group.size)
    if side is None:
        return dense_sigmoid(image, text, scale, bias)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (image, text, scale, bias))
    pairs, ring = len(text) * group.size, group
    columns: BatchGroup = SINGLE_PROCESS
    if len(text) < side:  # a tile has room for the captions of several processes: one transfer in place of a ring's
        text, ring, columns = group.all_gather(text), SINGLE_PROCESS, group
    cuts = list(tiles(len(image), columns, side))
    return TiledSigmoid.apply(image, text, scale, bias, cuts, ring, pairs, wanted)


def dense_sigmoid(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Compute the sigmoid loss of features [pairs, width] of unit length from the full matrix of logits."""
    logits = scale * image @ text.T + bias
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)


class TiledSigmoid(torch.autograd.Function):
    """Compute the sigmoid loss in tiles, with three matrix products: no tile depends on others, so one pass gives loss
    and gradients.

    Over processes, large blocks of text features go round a ring (SigLIP, section 3.3): each block meets a process's
    image features, and goes on to the next process together with the gradients gathered so far, which are back at their
    own process after as many hops as there are processes. Both transfers overlap with computing the tiles of the next
    hop. A process holds the text features of two processes at a time, and the backward pass sends nothing. Small blocks
    are gathered before, so that a tile has those of several processes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor,
        cuts: list[Tile],
        group: BatchGroup,
        pairs: int,
        wanted: bool,
    ) -> Tensor:
        image_sum: Any = torch.zeros_like(image) if wanted else None
        before: Any = None
        # Made ahead: small tensors that stay, between tiles that go, would keep the allocator from using a place again.
        losses, bias_sums = (image.new_zeros(group.size * len(cuts)) for _ in range(2))
        for hop in range(group.size):
            following = group.shift(text) if hop + 1 < group.size else None
            text_sum: Any = torch.zeros_like(text) if wanted else None
            for number, (rows, columns, matched) in enumerate(cuts, hop * len(cuts)):
                own = Tile(rows, columns, None if hop else matched)  # what comes from others matches nothing here
                wrong = ((scale * image[rows]) @ text[columns].T).add_(bias)  # logits, negated where the pair matches
                own.diagonal(wrong).neg_()
                losses[number] = F.softplus(wrong, threshold=40).sum()  # log(1 + e^x) is x from 40 on, in float64 too
                if wanted:
                    weight = wrong.sigmoid_()
                    own.diagonal(weight).neg_()
                    bias_sums[number] = weight.sum()
                    add_products(image_sum[rows], text_sum[columns], weight, image[rows], text[columns])
            if wanted:
                before = group.shift(text_sum.add_(before()) if before else text_sum)
            text = following() if following else text
        if wanted:
            scale_sum = inner(image, image_sum)
            ctx.sums = image_sum.mul_(scale), before().mul_(scale), scale_sum, bias_sums.sum()
            ctx.pairs = pairs
        return losses.sum() / pairs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.sums is None:
            raise RuntimeError("the tiled sigmoid loss gives its gradients once; compute the loss again for more")
        sums, ctx.sums = ctx.sums, None  # scaled in place: copies would double the memory
        factor = gradient / ctx.pairs
        return *(x.mul_(factor) for x in sums), None, None, None, None
