"""Give equal inputs equal features, to the last bit.

The features of an input differ in their last bits with the rest of the batch and with the number of threads. So equal
texts, encoded in different batches, would be ranked by chance.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

TEXTS = 1024  # texts encoded at once
GRAIN = 2.0**-25  # products of two multiples are multiples of 2^-50, whose sums up to 8 are exact in float64


class Firsts:
    """Find, for rows that come batch by batch, the first one that equals each."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}
        self.found: list[int] = []

    def add(self, rows: Tensor) -> None:
        """Add rows [batch, ...] of any type."""
        for row in rows.cpu():
            digest = sha256(row.numpy().tobytes()).digest()
            self.found.append(self.known.setdefault(digest, len(self.found)))

    @property
    def places(self) -> Tensor:
        """Return for each row so far the index of the first one that equals it: int64 [rows]."""
        return torch.tensor(self.found, dtype=torch.long)


def firsts(rows: Tensor) -> Tensor:
    """Return `Firsts.places` of rows [rows, ...]."""
    found = Firsts()
    found.add(rows)
    return found.places


def equal_images(loader: Iterable[tuple[Tensor, object]]) -> np.ndarray:
    """Return `Firsts.places` of a loader of (images, targets): int64 [images]."""
    found = Firsts()
    for images, _ in loader:
        found.add(images)
    return found.places.numpy()


def encode_texts(encode: Callable[[Tensor], Tensor], ids: Tensor, device: str) -> Tensor:
    """Return features [texts, width] on the CPU that `encode` gives for token ids [texts, tokens]; of equal texts only
    one is encoded, in an order and in batches that depend on the texts alone."""
    distinct, places = ids.unique(dim=0, return_inverse=True)
    return torch.cat([encode(some.to(device)).cpu() for some in distinct.split(TEXTS)])[places]


def exact(features: Tensor) -> Tensor:
    """Round features [items, embedding] of at most unit length so that their products, in float64, are exact: a score
    then depends on two features alone, and not on the order of summation. The step, 3e-8, is below the precision of
    float32."""
    return features.to(torch.double, copy=True).div_(GRAIN).round_().mul_(GRAIN)
