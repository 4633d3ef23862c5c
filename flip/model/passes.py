"""What losses besides the towers' own features are computed from: one module per loss that has a weight."""

from torch import nn

from flip.config.schema import Params
from flip.model.flava import Flava
from flip.model.m3ae import CrossModal
from flip.model.simclr import Views


def passes(params: Params, vocabulary: int) -> dict[str, nn.Module]:
    """By name, those that `params` asks for; none of them costs anything where its loss has no weight."""
    found = {}
    if params.generative.wanted:
        found["generative"] = CrossModal(params, vocabulary)
    if params.flava.hides_patches or params.flava.hides_words:
        found["flava"] = Flava(params, vocabulary)
    if params.simclr.weight:
        found["views"] = Views(params.model.vision.width, params.simclr)
    return found
