"""Compute NT-Xent between two views of each image (SimCLR, Chen et al. 2020, equation 1), as SLIP adds it to CLIP's
loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from flip.config.schema import Params
from flip.data.views import ViewSet
from flip.losses.objective import Batch, Objective, Scope, Setting
from flip.losses.tiling import SINGLE_PROCESS, BatchGroup, pick_side, strips
from flip.model.simclr import WEIGHT, EncodedViews, ProjectionHead
from flip.model.transformer import full_precision, recomputed


class SimCLRObjective(Objective):
    """Classify for each view which of all views of the global batch is the other one of its image."""

    scope = Scope.GLOBAL_BATCH  # every view is a negative of every other, and the head's BatchNorm is over all pairs

    def __init__(self, setting: Setting):
        params, self.group = setting.params, setting.group
        self.weight, self.temperature = params.simclr.weight, params.simclr.temperature
        with torch.device("meta"):  # the form of the head; its weights come with the outputs
            self.head = ProjectionHead(params.model.vision.width, params.simclr, self.group.all_gather)

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return EncodedViews(params.model.vision.width, params.simclr)

    @classmethod
    def views(cls, params: Params) -> ViewSet:
        return ViewSet(params.simclr.views, 2, params.model.image)

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = {name: outputs[WEIGHT + name] for name, _ in self.head.named_parameters()}
        views = F.normalize(functional_call(self.head, weights, (outputs["views"],)), dim=-1)
        return {"simclr": self.weight * nt_xent(views, self.temperature, group=self.group)}


def nt_xent(views: Tensor, temperature: float, side: int | None = None, group: BatchGroup = SINGLE_PROCESS) -> Tensor:
    """Compute NT-Xent (SimCLR, equation 1) of views [pairs, 2, width] of unit length, the mean over all; in float32 at
    least.

    `side` is how many rows of the matrix of logits are held at a time, each computed twice; None computes small batches
    from the full logits and picks a number for large ones. Where `group` has several processes, each holds its pairs
    and gets its part of the loss, a sum.
    """
    own = full_precision(views).flatten(0, 1)  # rows 2 i and 2 i + 1 are the views of pair i
    everyone = group.all_gather(own)
    side = pick_side(views, side)
    if side is None:
        return summed_cross_entropy(own, everyone, temperature, group.rank * len(own)) / len(everyone)
    parts = [
        recomputed(summed_cross_entropy, own[rows], everyone, temperature, group.rank * len(own) + rows.start)
        for rows in strips(len(own), side)
    ]
    return torch.stack(parts).sum() / len(everyone)


def summed_cross_entropy(rows: Tensor, everyone: Tensor, temperature: float, first: int) -> Tensor:
    """Compute the cross entropy, summed, of rows [rows, width], which begin at row `first` of `everyone` [views,
    width]."""
    logits = rows @ everyone.T / temperature
    itself = torch.arange(first, first + len(rows), device=rows.device)
    logits = logits.scatter(1, itself[:, None], -torch.inf)
    return F.cross_entropy(logits, itself ^ 1, reduction="sum")
