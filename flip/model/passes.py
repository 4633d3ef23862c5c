"""What losses besides the towers' own features are computed from: one module per loss that has a weight."""

from torch import nn

from flip.model.flava import Flava
from flip.schema import Params


def passes(params: Params, vocabulary: int) -> dict[str, nn.Module]:
    """By name, those that `params` asks for; none of them costs anything where its loss has no weight."""
    flava = params.flava
    wanted = {"flava": (Flava, flava.hides_patches or flava.hides_words)}
    return {name: module(params, vocabulary) for name, (module, needed) in wanted.items() if needed}
