"""Convert tensors to the layouts of other libraries and back (used by flip.export.names)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorLayout:
    """Hold two functions that convert our tensors to theirs (`there`) and back; each takes and returns one per name."""

    there: Callable[..., tuple[Tensor, ...]]
    back: Callable[..., tuple[Tensor, ...]]


def _one(there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> TensorLayout:
    """Return the layout of a single tensor."""
    return TensorLayout(lambda x: (there(x),), lambda x: (back(x),))


def _kernel(weight: Tensor) -> Tensor:
    """Reshape the projection of flattened patches [width, patch * patch * 3] to a kernel [width, 3, patch, patch]."""
    side = round((weight.shape[1] // 3) ** 0.5)
    return weight.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2)


def _with_class(token: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Prepend a position of zeros: our class token has none of its own."""
    return token, torch.cat([torch.zeros_like(positions[:1]), positions])


def _without_class(token: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Add the first position to the class token."""
    return token + positions[0], positions[1:]


SAME = TensorLayout(lambda *x: x, lambda *x: x)
TRANSPOSED = _one(torch.t, torch.t)
KERNEL = _one(_kernel, lambda x: x.permute(0, 2, 3, 1).flatten(1))
WORDS = TensorLayout(lambda x, mask: (torch.cat([x, mask[None]]),), lambda x: (x[:-1], x[-1]))  # last row: masked
ROW = _one(lambda x: x[None], lambda x: x[0])
TOKEN = _one(lambda x: x[None, None], lambda x: x[0, 0])
CLASS = TensorLayout(_with_class, _without_class)
FIRST_ROW = _one(lambda x: torch.cat([torch.zeros_like(x[:1]), x])[None], lambda x: x[0, 1:])  # of a class token: zero
CLASS_ROW = TensorLayout(
    lambda token, positions: tuple(x[None] for x in _with_class(token[None], positions)),
    lambda token, positions: _without_class(token[0, 0], positions[0]),
)
NEVER = -1e4  # logit of the token that is never predicted
NO_MASK = _one(lambda x: torch.cat([x, torch.zeros_like(x[:1])]), lambda x: x[:-1])
NO_MASK_BIAS = TensorLayout(lambda x: (torch.cat([x, x.new_full((1,), NEVER)]),) * 2, lambda x, _: (x[:-1],))
TWICE = TensorLayout(lambda x: (x, x), lambda x, _: (x,))
THREE = TensorLayout(lambda x: x.chunk(3), lambda *x: (torch.cat(x),))  # query, key and value: one matrix of ours
STACKED = TensorLayout(lambda *x: (torch.cat(x),), lambda x: x.split([len(x) // 3, len(x) - len(x) // 3]))
