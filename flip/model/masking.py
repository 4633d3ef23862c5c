"""Choose which patches and tokens a training step sees.

Masks follow from (seed, stream, position in the training order) alone (flip.rng).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from flip.rng import logical_shift, random_bits


class MaskOrder(NamedTuple):
    """Hold a random order of each sample's slots, cut after the kept ones.

    ids_keep: int64 [batch, kept], slots that are kept. ids_restore: int64 [batch, slots], rank of each slot in the
    order; `kept` or more means removed.
    """

    ids_keep: Tensor
    ids_restore: Tensor


def mask_patches(seed: int, positions: Tensor, patches: int, kept: int, stream: str = "image") -> MaskOrder:
    """Draw a uniformly random subset of `kept` patches per sample (MAE, section 3; FLIP, section 3).

    `positions`, int64 [batch], are those in the training order.
    """
    order = random_bits(seed, stream, positions, patches).argsort(dim=1)
    return MaskOrder(order[:, :kept], order.argsort(dim=1))


def complementary(order: MaskOrder, kept: int) -> list[Tensor]:
    """Return ids_keep, int64 [batch, kept] each, of views that together cover every patch (FLIP, Table 1d): two views
    at a mask ratio of 50 %, four at 75 %.

    Where `kept` does not divide the number of patches, the last view is filled up from the first.
    """
    slots = order.ids_restore.argsort(dim=1)
    total = slots.shape[1]
    views = -(-total // kept)
    slots = torch.cat([slots, slots[:, : views * kept - total]], dim=1)
    return list(slots.split(kept, dim=1))


def mask_tokens(seed: int, positions: Tensor, valid: Tensor, kept: int, policy: str, stream: str = "text") -> Tensor:
    """Draw the token positions that are kept, ascending: int64 [batch, kept], for valid, bool [batch, slots] (FLIP,
    sec. 3).

    The policy `random` draws from all positions, padding included; `prioritized` removes padding before tokens.
    """
    bits = logical_shift(random_bits(seed, stream, positions, valid.shape[1]), 1)
    if policy == "prioritized":
        bits = bits + (~valid).long() * 2**62
    return bits.argsort(dim=1)[:, :kept].sort(dim=1).values
