"""Objectives: small objects that turn a batch and the model's outputs into named, weighted losses.

`joint` says how a loss of a batch follows from its parts: True, only from all features together; False, as the mean
of the parts' losses, weighted by their pairs. Where processes share a batch, a joint loss is given as this process's
part of the sum; one that `gathers` reads the pictures' features of all.
"""

from torch import Tensor

from flip.config.schema import Params
from flip.data.batch_types import PAIRS, kind
from flip.losses.flava import flava_losses
from flip.losses.info_nce import Contrastive
from flip.losses.m3ae import PixelError, WordEntropy
from flip.losses.mae import Reconstruction
from flip.losses.sigmoid import Sigmoid
from flip.losses.simclr import SimCLR
from flip.losses.tiling import ALONE

__all__ = [
    "Contrastive",
    "PixelError",
    "Reconstruction",
    "Sigmoid",
    "SimCLR",
    "WordEntropy",
    "named_losses",
    "objectives",
    "readers",
]


def objectives(params: Params, world=ALONE) -> list:
    """The losses that `params` gives a weight, over the global batch of the processes of `world`."""
    found = [
        Contrastive(params.contrastive.weight, world),
        Sigmoid(params.sigmoid.weight, world),
        Reconstruction(params),
        PixelError(params),
        WordEntropy(params),
        *flava_losses(params),
        SimCLR(params, world),
    ]
    return [one for one in found if one.weight]


def readers(chosen: list, batch: dict[str, Tensor]) -> list:
    """Those of the losses that read a batch of its kind; most read pairs alone."""
    return [one for one in chosen if kind(batch) in getattr(one, "reads", {PAIRS})]


def named_losses(
    chosen: list, batch: dict[str, Tensor], outputs: dict[str, Tensor], share: float = 1.0
) -> dict[str, Tensor]:
    """All losses by name, as parts of those of the global batch, which `batch` is a `share` of."""
    named = {}
    for objective in chosen:
        losses = objective(batch, outputs)
        named |= losses if objective.joint else {name: share * loss for name, loss in losses.items()}
    return named
