"""Equal inputs, which get equal features to the last bit.

What a model makes of an input differs in its last bits with what is beside it in the batch and with the number of
threads. So equal texts, encoded apart, would beat one another in a ranking by chance.
"""

from collections.abc import Callable
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

TEXTS = 1024  # texts encoded at once
GRAIN = 2.0**-25  # products of two multiples are multiples of 2^-50, whose sums up to 8 are exact in float64


class Firsts:
    """Finds, of rows that come batch by batch, the first one that equals each."""

    def __init__(self):
        self.known, self.found = {}, []

    def add(self, rows: Tensor) -> None:
        """Takes rows [batch, ...] of any kind."""
        for row in rows.cpu():
            digest = sha256(row.numpy().tobytes()).digest()
            self.found.append(self.known.setdefault(digest, len(self.found)))

    @property
    def places(self) -> Tensor:
        """For each row so far, the place of the first one that equals it: int64 [rows]."""
        return torch.tensor(self.found, dtype=torch.long)


def firsts(rows: Tensor) -> Tensor:
    """Gives `Firsts.places` of rows [rows, ...]."""
    found = Firsts()
    found.add(rows)
    return found.places


def equal_images(loader) -> np.ndarray:
    """Gives `Firsts.places` of a loader of (images, targets): int64 [images]."""
    found = Firsts()
    for images, _ in loader:
        found.add(images)
    return found.places.numpy()


def encode_texts(encode: Callable[[Tensor], Tensor], ids: Tensor, device) -> Tensor:
    """Features [texts, width] on the processor that `encode` gives of token ids [texts, slots]; of equal texts just one
    is encoded, in an order and in batches that follow from the texts alone."""
    distinct, places = ids.unique(dim=0, return_inverse=True)
    return torch.cat([encode(some.to(device)).cpu() for some in distinct.split(TEXTS)])[places]


def exact(features: Tensor) -> Tensor:
    """Rounds features of at most unit length so that their products, in float64, have no rounding: a score then follows
    from two features, whatever order, block or machine sums it up. 3e-8 is less than float32 has computed them to."""
    return features.to(torch.double, copy=True).div_(GRAIN).round_().mul_(GRAIN)
