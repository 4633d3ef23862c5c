"""What losses besides the towers' own features are computed from: one module per loss that has a weight."""

from torch import nn

from flip.model.views import Views
from flip.schema import Params


def passes(params: Params, vocabulary: int) -> dict[str, nn.Module]:
    """By name, those that `params` asks for; none of them costs anything where its loss has no weight."""
    found = {}
    if params.simclr.weight:
        found["views"] = Views(params.model.vision.width, params.simclr)
    return found
