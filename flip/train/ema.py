"""Let the tower that attentive masks look with follow the image tower: an exponential moving average of its weights."""

import math

from torch import Tensor

from flip.model.average import copy_weights, move_average
from flip.model.two_towers import TwoTowers


def momentum(start: float, progress: float) -> float:
    """Return the momentum after a share of the training, from `start` to 1 by a cosine (BYOL, Grill et al. 2020,
    section 3.2; A-CLIP's code)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


def begin(model: TwoTowers) -> None:
    """Set the average to the tower's weights, where the model has one."""
    if model.looking is not None and model.vision is not None:
        copy_weights(model.looking, model.vision)


def follow(model: TwoTowers, weight: float, spoilt: Tensor) -> None:
    """Move the average by 1 - `weight` of the way to the tower's weights, where the model has one; not where `spoilt`,
    a scalar on the device, is 1, as the step changed nothing."""
    if model.looking is not None and model.vision is not None:
        move_average(model.looking, model.vision, (1 - spoilt) * (1 - weight))
