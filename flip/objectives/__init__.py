"""Objectives: small objects that turn a batch and the model's outputs into named, weighted losses.

`joint` says how a loss of a batch follows from its parts: True, only from all features together; False, as the mean
of the parts' losses, weighted by their pairs.
"""

from torch import Tensor

from flip.objectives.contrastive import Contrastive
from flip.objectives.reconstruction import Reconstruction
from flip.objectives.sigmoid import Sigmoid
from flip.schema import Params

__all__ = ["Contrastive", "Reconstruction", "Sigmoid", "named_losses", "objectives"]


def objectives(params: Params) -> list:
    """The losses that `params` gives a weight."""
    found = [Contrastive(params.contrastive.weight), Sigmoid(params.sigmoid.weight), Reconstruction(params)]
    return [one for one in found if one.weight]


def named_losses(chosen: list, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """All losses of a batch by name."""
    named = {}
    for objective in chosen:
        named |= objective(batch, outputs)
    return named
