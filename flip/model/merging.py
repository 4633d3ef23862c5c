"""Merge similar tokens between the attention and the MLP of each block (ToMe, Bolya et al. 2023, arXiv 2210.09461).

Each block merges as many for every image, so that shapes do not depend on what an image shows. A merged token stands
for several patches: it weighs as much in attention (proportional attention) and in what averages tokens.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flip.device import without_autocast


class Merged(NamedTuple):
    """Hold tokens [batch, tokens, width], and how many patches each stands for, [batch, tokens]."""

    tokens: Tensor
    size: Tensor

    @classmethod
    def begin(cls, tokens: Tensor) -> "Merged":
        """Hold tokens that each stand for themselves."""
        return cls(tokens, torch.ones_like(tokens[..., 0]))

    def bias(self, dtype: torch.dtype) -> Tensor:
        """Return what attention adds to its logits, [batch, 1, 1, tokens]: the logarithm of the sizes (section 3)."""
        return self.size.log().to(dtype)[:, None, None, :]


def merged_count(tokens: int, count: int, first: int) -> int:
    """Return how many of `tokens` a block merges, where `count` are asked for and the `first` ones stay: every other
    token may be merged, into one of those between."""
    return min(count, (tokens - first) // 2)


def merge(x: Merged, keys: Tensor, count: int, first: int) -> Merged:
    """Merge `count` pairs by bipartite soft matching (section 3): every other token is matched with the one most like
    it among those between, and the most similar pairs become their mean, weighted by size.

    keys: [batch, tokens, channels], whose cosines say what is similar. first: 1 where token 0 is a class token, which
    stays. Tokens that were not merged come first, in order, so that a class token stays token 0.
    """
    if not count:
        return x
    unit = F.normalize(keys.float(), dim=-1)
    with without_autocast(unit.device):
        cosines = unit[:, first::2] @ unit[:, first + 1 :: 2].mT
    best, partner = cosines.max(dim=2)
    order = best.argsort(dim=1, descending=True, stable=True)
    gone, stays = order[:, :count], order[:, count:].sort(dim=1).values
    weight = x.size[:, :, None]
    parts = torch.cat([x.tokens * weight, weight], dim=2)  # sums and sizes
    odd, even = parts[:, first::2], parts[:, first + 1 :: 2]
    even = even.scatter_add(1, _wide(partner.gather(1, gone), odd), odd.gather(1, _wide(gone, odd)))
    parts = torch.cat([parts[:, :first], odd.gather(1, _wide(stays, odd)), even], dim=1)
    total, size = parts[..., :-1], parts[..., -1]
    return Merged((total / size[:, :, None]).to(x.tokens.dtype), size.to(x.size.dtype))


def _wide(index: Tensor, x: Tensor) -> Tensor:
    return index[:, :, None].expand(-1, -1, x.shape[2])
