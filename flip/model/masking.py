"""Which patches and tokens a training step sees.

Random numbers are a function of (seed, stream, position of the sample in the training order, slot) and of nothing
else: not of the batch, the device, the number of processes or what was drawn before. So a resumed or resharded run
draws the same masks, and gradient accumulation sees those of the large batch.
"""

from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea, Flood 2014); as signed integers, since torch has no full set of unsigned operations.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


class Order(NamedTuple):
    """A random order of each sample's slots, cut after the kept ones.

    ids_keep: [batch, kept] slots that are kept.
    ids_restore: [batch, slots] place of each slot in the order; `kept` or more means removed.
    """

    ids_keep: Tensor
    ids_restore: Tensor


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed 64-bit integers."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def random_bits(seed: int, stream: str, positions: Tensor, slots: int) -> Tensor:
    """63 random bits per (position, slot): int64 [batch, slots], for int64 positions [batch]."""
    start = int.from_bytes(sha256(f"{seed}/{stream}".encode()).digest()[:8], "big", signed=True)
    counter = positions[:, None] * slots + torch.arange(slots, device=positions.device)
    x = counter * _GAMMA + start
    for bits, factor in _MIX:
        x = (x ^ _shift(x, bits)) * factor
    return _shift(x ^ _shift(x, 31), 1)


def uniform(seed: int, stream: str, positions: Tensor, slots: int) -> Tensor:
    """Uniform numbers in [0, 1): float64 [batch, slots]."""
    return _shift(random_bits(seed, stream, positions, slots), 10).double() * 2.0**-53


def mask_patches(seed: int, positions: Tensor, patches: int, kept: int, stream: str = "image") -> Order:
    """A uniformly random subset of `kept` patches per sample (MAE, section 3; FLIP, section 3)."""
    order = random_bits(seed, stream, positions, patches).argsort(dim=1)
    return Order(order[:, :kept], order.argsort(dim=1))


def complementary(order: Order, kept: int) -> list[Tensor]:
    """ids_keep of views that together cover every patch (FLIP, Table 1d): two at 50 %, four at 75 %.

    Where `kept` does not divide the patches, the last view is filled up from the first.
    """
    slots = order.ids_restore.argsort(dim=1)
    total = slots.shape[1]
    views = -(-total // kept)
    slots = torch.cat([slots, slots[:, : views * kept - total]], dim=1)
    return list(slots.split(kept, dim=1))


def mask_tokens(seed: int, positions: Tensor, valid: Tensor, kept: int, policy: str, stream: str = "text") -> Tensor:
    """Token slots that are kept, in reading order: int64 [batch, kept], for valid [batch, slots] (FLIP, section 3).

    `random` draws from all slots, padding included; `prioritized` removes padding before words.
    """
    bits = _shift(random_bits(seed, stream, positions, valid.shape[1]), 1)
    if policy == "prioritized":
        bits = bits + (~valid).long() * 2**62
    return bits.argsort(dim=1)[:, :kept].sort(dim=1).values
