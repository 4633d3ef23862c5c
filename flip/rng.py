"""Draw random numbers that are a function of (seed, stream, position of the sample in the training order, slot) alone.

They depend neither on the batch, the device, the number of processes nor on what was drawn before. So a resumed or
resharded run draws the same ones, and gradient accumulation sees those of the large batch.
"""

from hashlib import sha256

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea, Flood 2014); as signed integers, since torch has no full set of unsigned operations.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


def logical_shift(x: Tensor, bits: int) -> Tensor:
    """Shift signed 64-bit integers [...] to the right, filling with zeros."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def random_bits(seed: int, stream: str, positions: Tensor, slots: int) -> Tensor:
    """Draw 63 random bits per (position, slot): int64 [batch, slots], for int64 positions [batch]."""
    start = int.from_bytes(sha256(f"{seed}/{stream}".encode()).digest()[:8], "big", signed=True)
    counter = positions[:, None] * slots + torch.arange(slots, device=positions.device)
    x = counter * _GAMMA + start
    for bits, factor in _MIX:
        x = (x ^ logical_shift(x, bits)) * factor
    return logical_shift(x ^ logical_shift(x, 31), 1)


def uniform(seed: int, stream: str, positions: Tensor, slots: int) -> Tensor:
    """Draw uniform numbers in [0, 1): float64 [batch, slots], for int64 positions [batch]."""
    return logical_shift(random_bits(seed, stream, positions, slots), 10).double() * 2.0**-53
