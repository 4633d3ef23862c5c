"""Keep a moving average of a module's weights in another one of the same form (Polyak averaging, EMA)."""

import torch
from torch import Tensor, nn

from flip.device import local_part


def _pairs(average: nn.Module, module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights of both, in one order, as far as they lie on this process."""
    of, to = ([local_part(one.detach()) for one in part.parameters()] for part in (module, average))
    return to, of


@torch.no_grad()
def copy_weights(average: nn.Module, module: nn.Module) -> None:
    """Set the average to the module's weights."""
    torch._foreach_copy_(*_pairs(average, module))


@torch.no_grad()
def move_average(average: nn.Module, module: nn.Module, share: Tensor) -> None:
    """Move the average by a `share`, a scalar on the device, of its distance to the module's weights."""
    to, of = _pairs(average, module)
    difference = torch._foreach_sub(of, to)
    torch._foreach_mul_(difference, share)
    torch._foreach_add_(to, difference)
