"""NT-Xent between two views of each picture (SimCLR, Chen et al. 2020, equation 1), as SLIP adds it to CLIP's loss."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from flip.config.schema import Params
from flip.losses.tiling import ALONE, pick_side, strips
from flip.model.precision import full_precision
from flip.model.simclr import WEIGHT, ProjectionHead
from flip.model.transformer import recomputed


class SimCLR:
    """Each view has to find the other of its picture among all views of the global batch."""

    joint = True  # every view is a negative of every other, and the head's BatchNorm is over all pairs

    def __init__(self, params: Params, world=ALONE):
        self.weight, self.temperature, self.world = params.simclr.weight, params.simclr.temperature, world
        with torch.device("meta"):  # the form of the head; its weights come with the outputs
            self.head = ProjectionHead(params.model.vision.width, params.simclr, world.gather)

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = {name: outputs[WEIGHT + name] for name, _ in self.head.named_parameters()}
        views = F.normalize(functional_call(self.head, weights, (outputs["views"],)), dim=-1)
        return {"simclr": self.weight * nt_xent(views, self.temperature, world=self.world)}


def nt_xent(views: Tensor, temperature: float, side: int | None = None, world=ALONE) -> Tensor:
    """NT-Xent of views [pairs, 2, width] of unit length, the mean over all of them; in float32 at least.

    `side` is how many rows of the matrix of logits are held at a time, each computed twice; None takes small batches
    whole and picks a number for large ones. Where `world` has several processes, each holds its pairs and gets its part
    of the loss, a sum.
    """
    own = full_precision(views).flatten(0, 1)  # rows 2 i and 2 i + 1 are the views of pair i
    everyone = world.gather(own)
    side = pick_side(views, side)
    if side is None:
        return missed(own, everyone, temperature, world.rank * len(own)) / len(everyone)
    parts = [
        recomputed(missed, own[rows], everyone, temperature, world.rank * len(own) + rows.start)
        for rows in strips(len(own), side)
    ]
    return torch.stack(parts).sum() / len(everyone)


def missed(rows: Tensor, everyone: Tensor, temperature: float, first: int) -> Tensor:
    """Cross entropy, summed, of rows [rows, width] that begin at `first` of `everyone`."""
    logits = rows @ everyone.T / temperature
    itself = torch.arange(first, first + len(rows), device=rows.device)
    logits = logits.scatter(1, itself[:, None], -torch.inf)
    return F.cross_entropy(logits, itself ^ 1, reduction="sum")
