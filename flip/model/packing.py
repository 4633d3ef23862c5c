"""Pack sequences of different lengths one after another, without padding (sequence packing), and find tokens in them.

How many tokens there are decides the shapes of what follows. Where it is known in main memory beforehand
(`true_counts`), nothing waits for the device.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def has_values(x: Tensor) -> bool:
    """Tell whether a tensor is more than its shape, as which work is counted (flip.plan.counting)."""
    return not isinstance(x, FakeTensor)


def true_counts(mask: Tensor, expected_share: float = 1.0) -> np.ndarray:
    """Count where each row of a mask, bool [batch, slots], is true: int64 [batch], in main memory.

    Of a mask without values, `expected_share` of the slots counts: that is how work is counted for captions of a given
    length (flip.plan.counting).
    """
    if has_values(mask):
        return mask.sum(dim=1).cpu().numpy()
    ends = np.arange(len(mask) + 1) * mask.shape[1] * expected_share
    return np.diff(ends.round().astype(np.int64))


class PackedBatch(NamedTuple):
    """Describe where packed tokens belong.

    valid: bool [batch, slots], where a token is. lengths: int64 [batch], tokens of each row. indices: int64 [tokens],
    of the slots of all rows one after another. min_length: tokens of the shortest row.

    It is computed once for all that reads a batch's captions; indexing by a mask would wait for the device at each use.
    """

    valid: Tensor
    lengths: Tensor
    indices: Tensor
    min_length: int

    @classmethod
    def from_mask(cls, valid: Tensor, known: np.ndarray | None = None) -> "PackedBatch":
        """Pack rows whose tokens come first, bool [batch, slots], into as many slots as the longest row needs.

        `known` are their lengths, int64 [batch]; without, the device is asked for them.
        """
        counts = true_counts(valid) if known is None else known
        tokens, longest, shortest = int(counts.sum()), int(counts.max()), int(counts.min())
        return cls._of(valid[:, : max(longest, 1)], valid.sum(dim=1), tokens, shortest)

    @classmethod
    def _of(cls, valid: Tensor, lengths: Tensor, tokens: int, shortest: int) -> "PackedBatch":
        return cls(valid, lengths, true_rows(valid, tokens), shortest)

    @property
    def slots(self) -> int:
        """Count the slots of a row."""
        return self.valid.shape[1]

    def token(self, slot: Tensor) -> Tensor:
        """Find which of the tokens is in a slot [batch] of each row: int64 [batch]."""
        return self.lengths.cumsum(0) - self.lengths + slot

    def with_prefix(self, count: int) -> "PackedBatch":
        """Add `count` tokens before those of every row."""
        valid = torch.cat([self.valid.new_ones(len(self.valid), count), self.valid], dim=1)
        tokens = len(self.indices) + len(valid) * count
        return PackedBatch._of(valid, self.lengths + count, tokens, self.min_length + count)

    def pack(self, x: Tensor) -> Tensor:
        """Take the valid slots of [batch, slots or more, ...], row by row: [tokens, ...]."""
        return x[:, : self.slots].flatten(0, 1).index_select(0, self.indices)

    def unpack(self, x: Tensor) -> Tensor:
        """Put tokens [tokens, width] into their slots [batch, slots, width], zero where there is none."""
        slots = x.new_zeros(self.valid.numel(), x.shape[-1])
        # For its gradient, `index_copy` would keep x, of which the place is all that is needed.
        return slots.index_put((self.indices,), x).unflatten(0, self.valid.shape)


def true_rows(mask: Tensor, count: int) -> Tensor:
    """Find where a mask of any shape, flattened, is true `count` times: int64 [count], without asking the device."""
    return mask.flatten().nonzero_static(size=count)[:, 0]


def masked_tokens(x: Tensor, mask: Tensor, count: int) -> Tensor:
    """Take the tokens of x [batch, slots, ...] where a mask, bool [batch, slots], is true `count` times: [count,
    ...]."""
    return x[mask.nonzero_static(size=count).unbind(1)]


def put_tokens(x: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """Put tokens [masked, ...] where a mask, bool [batch, slots], is true in x [batch, slots, ...]: undo
    `masked_tokens`."""
    return x.index_put(mask.nonzero_static(size=len(tokens)).unbind(1), tokens)


def select_token(x: Tensor, packing: PackedBatch | None, slot: Tensor) -> Tensor:
    """Take from each row the token in slot `slot` [batch]: [batch, width], of dense or packed x."""
    if packing is None:
        return x[torch.arange(x.shape[0], device=x.device), slot]
    return x[packing.token(slot)]


Rows = tuple[Tensor, PackedBatch | None, Tensor | None]


def split_rows(x: Tensor, packing: PackedBatch | None, slot: Tensor | None, tokens: int) -> list[Rows]:
    """Split the rows of a batch into parts of about so many tokens: (x [tokens, width], packing, slot [rows]) of
    each."""
    rows = len(x if packing is None else packing.valid)
    count = min(round(x.shape[:-1].numel() / tokens), rows)
    if count <= 1:
        return [(x, packing, slot)]
    slots = [None] * count if slot is None else slot.tensor_split(count)
    if packing is None:
        return list(zip(x.tensor_split(count), [None] * count, slots, strict=True))
    packings = [PackedBatch.from_mask(valid) for valid in packing.valid.tensor_split(count)]
    return list(zip(x.split([len(one.indices) for one in packings]), packings, slots, strict=True))
