"""How tensors of ours become those of other libraries, and theirs ours (flip.export.names)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How our tensors become theirs, and theirs ours; each takes and gives one tensor per name."""

    there: Callable[..., tuple[Tensor, ...]]
    back: Callable[..., tuple[Tensor, ...]]


def _one(there: Callable, back: Callable) -> Layout:
    return Layout(lambda x: (there(x),), lambda x: (back(x),))


def _kernel(weight: Tensor) -> Tensor:
    """The projection of flattened patches [width, patch * patch * 3] as a convolution's [width, 3, patch, patch]."""
    side = round((weight.shape[1] // 3) ** 0.5)
    return weight.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2)


def _with_class(token: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Ours has no position of its own: the class token's row of positions is zero."""
    return token, torch.cat([torch.zeros_like(positions[:1]), positions])


def _without_class(token: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return token + positions[0], positions[1:]


SAME = Layout(lambda *x: x, lambda *x: x)
TRANSPOSED = _one(torch.t, torch.t)
KERNEL = _one(_kernel, lambda x: x.permute(0, 2, 3, 1).flatten(1))
WORDS = Layout(lambda x, mask: (torch.cat([x, mask[None]]),), lambda x: (x[:-1], x[-1]))  # the last one: hidden
ROW = _one(lambda x: x[None], lambda x: x[0])
TOKEN = _one(lambda x: x[None, None], lambda x: x[0, 0])
CLASS = Layout(_with_class, _without_class)
FIRST_ROW = _one(lambda x: torch.cat([torch.zeros_like(x[:1]), x])[None], lambda x: x[0, 1:])  # of a class token: zero
CLASS_ROW = Layout(
    lambda token, positions: tuple(x[None] for x in _with_class(token[None], positions)),
    lambda token, positions: _without_class(token[0, 0], positions[0]),
)
NEVER = -1e4  # logit of an answer that is none
NO_MASK = _one(lambda x: torch.cat([x, torch.zeros_like(x[:1])]), lambda x: x[:-1])
NO_MASK_BIAS = Layout(lambda x: (torch.cat([x, x.new_full((1,), NEVER)]),) * 2, lambda x, _: (x[:-1],))
TWICE = Layout(lambda x: (x, x), lambda x, _: (x,))
THREE = Layout(lambda x: x.chunk(3), lambda *x: (torch.cat(x),))  # query, key and value: one matrix of ours
STACKED = Layout(lambda *x: (torch.cat(x),), lambda x: x.split([len(x) // 3, len(x) - len(x) // 3]))
