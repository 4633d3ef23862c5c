"""Pack sequences of different lengths one after another, without padding (sequence packing), and find tokens in them.

Of tensors without values, every slot counts as a token, and a mask as the share of `True` that is expected of it: that
is how work is counted for captions of a given length (flip.plan.counting).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def has_values(x: Tensor) -> bool:
    """Tell whether a tensor is more than its shape."""
    return not (x.is_meta or isinstance(x, FakeTensor))


class PackedBatch(NamedTuple):
    """Describe where packed tokens belong.

    valid: bool [batch, slots], where a token is. lengths: int64 [batch], tokens of each row. indices: int64 [tokens],
    of the slots of all rows one after another. min_length: tokens of the shortest row.

    It is computed once for all that reads a batch's captions, with one synchronization with the device, for three
    numbers: indexing by a mask would synchronize at each use.
    """

    valid: Tensor
    lengths: Tensor
    indices: Tensor
    min_length: int

    @classmethod
    def from_mask(cls, valid: Tensor) -> "PackedBatch":
        """Pack rows whose tokens come first, bool [batch, slots], into as many slots as the longest row needs."""
        lengths = valid.sum(dim=1)
        if not has_values(valid):
            tokens, longest, shortest = valid.numel(), valid.shape[1], valid.shape[1]
        else:
            tokens, longest, shortest = torch.stack([lengths.sum(), lengths.max(), lengths.min()]).tolist()
        return cls._of(valid[:, : max(longest, 1)], lengths, tokens, shortest)

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
    if not has_values(mask):
        return mask.new_empty(count, dtype=torch.int64)
    return mask.flatten().nonzero_static(size=count)[:, 0]


def masked_tokens(x: Tensor, mask: Tensor, expected_share: float) -> Tensor:
    """Take the tokens of x [batch, slots, ...] where a mask, bool [batch, slots], is true: [masked, ...].

    `expected_share` is how many of the slots a mask hides on average; it counts where there are no values.
    """
    if not has_values(mask):
        return x.flatten(0, 1).index_select(0, true_rows(mask, max(round(expected_share * mask.numel()), 1)))
    return x[mask]


def select_token(x: Tensor, packing: PackedBatch | None, slot: Tensor) -> Tensor:
    """Take from each row the token in slot `slot` [batch]: [batch, width], of dense or packed x."""
    if packing is None:
        return x[torch.arange(x.shape[0], device=x.device), slot]
    return x[packing.token(slot)]


Rows = tuple[Tensor, PackedBatch | None, Tensor | None]


def split_rows(x: Tensor, packing: PackedBatch | None, slot: Tensor | None, tokens: int) -> list[Rows]:
    """Split the rows of a batch into parts of about so many tokens: (x, packing, slot) of each."""
    rows = len(x if packing is None else packing.valid)
    count = min(round(x.shape[:-1].numel() / tokens), rows)
    if count <= 1:
        return [(x, packing, slot)]
    slots = [None] * count if slot is None else slot.tensor_split(count)
    if packing is None:
        return list(zip(x.tensor_split(count), [None] * count, slots, strict=True))
    packings = [PackedBatch.from_mask(valid) for valid in packing.valid.tensor_split(count)]
    return list(zip(x.split([len(one.indices) for one in packings]), packings, slots, strict=True))
