"""Let the tower that attentive masks look with follow the image tower: an exponential moving average of its weights."""

import math

import torch
from torch import nn

from flip.model.two_towers import TwoTowers
from flip.train.parallel import local_part


def _pairs(model: TwoTowers) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the weights of the average, and of the tower, of which this process has a part."""
    towers: list[nn.Module] = [model.looking, model.vision]  # type: ignore[list-item]  # called where both are there
    slow, fast = ([local_part(one.detach()) for one in tower.parameters()] for tower in towers)
    return slow, fast


def momentum(start: float, progress: float) -> float:
    """Return the momentum after a share of the training, from `start` to 1 by a cosine (BYOL, Grill et al. 2020,
    section 3.2; A-CLIP's code)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


@torch.no_grad()
def begin(model: TwoTowers) -> None:
    """Set the average to the tower's weights, where the model has one."""
    if model.looking is not None:
        torch._foreach_copy_(*_pairs(model))


@torch.no_grad()
def follow(model: TwoTowers, weight: float) -> None:
    """Move the average by 1 - `weight` of the way to the tower's weights, where the model has one."""
    if model.looking is not None:
        torch._foreach_lerp_(*_pairs(model), 1 - weight)
