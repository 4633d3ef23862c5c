"""Objectives: small objects that turn a batch and the model's outputs into named, weighted losses."""

from flip.objectives.contrastive import Contrastive
from flip.objectives.reconstruction import Reconstruction
from flip.schema import Params


def objectives(params: Params) -> list:
    """The losses that `params` gives a weight."""
    return [Contrastive(), *([Reconstruction(params)] if params.reconstruction.weight else [])]
