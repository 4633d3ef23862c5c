"""Choose which patches and tokens a training step sees.

Masks follow from (seed, stream, position in the training order) alone (flip.rng). A policy orders a sample's slots, and
the first ones are kept: so each keeps as many as another, and none waits for the device.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from flip.config.schema import Masking
from flip.model.pixel_masks import near_anchors
from flip.rng import logical_shift, random_bits, uniform

WINDOW = 2  # patches a side


class MaskOrder(NamedTuple):
    """Hold an order of each sample's slots, cut after the kept ones.

    ids_keep: int64 [batch, kept], slots that are kept. ids_restore: int64 [batch, slots], rank of each slot in the
    order; `kept` or more means removed.
    """

    ids_keep: Tensor
    ids_restore: Tensor


class Draw(NamedTuple):
    """Hold what a policy may draw masks from.

    positions: int64 [batch], in the training order. grid: patches a side. images: uint8 [batch, side, side, 3];
    attention: computes how much each patch of them is looked at, float [batch, patches]; for the policies that read
    these.
    """

    seed: int
    stream: str
    positions: Tensor
    grid: int
    masking: Masking | None
    images: Tensor | None
    attention: Callable[[Tensor], Tensor] | None


Keys = Callable[[Draw], Tensor]  # -> [batch, grid^2], of which the smallest are kept


def _random(draw: Draw) -> Tensor:
    """Order patches uniformly at random (MAE, section 3; FLIP, section 3)."""
    return random_bits(draw.seed, draw.stream, draw.positions, draw.grid**2)


def _grid(draw: Draw) -> Tensor:
    """Order patches so that every window of 2 x 2 keeps as many as any other, give or take one.

    MAE (Figure 6) and CLIPA keep one of every four; here which one is drawn anew for each window and sample.
    """
    bits, grid = _random(draw), draw.grid
    split = (grid // WINDOW, WINDOW, grid // WINDOW, WINDOW)
    windows = bits.unflatten(1, split).transpose(2, 3).flatten(3).flatten(1, 2)  # [batch, windows, 4]
    rank = windows.argsort(dim=2).argsort(dim=2).unflatten(2, (WINDOW, WINDOW)).unflatten(1, split[::2])
    return rank.transpose(2, 3).flatten(1) * 2**60 + logical_shift(bits, 3)


def _block(draw: Draw) -> Tensor:
    """Order patches by their distance from a random centre, the farthest first: what is removed is one block.

    MAE (Figure 6) and CLIPA remove random blocks; the rule of their code is not known here. This one has the aspect
    ratios of BEiT's blocks, and exactly as many patches as were asked for.
    """
    seed, stream, positions, grid, *_ = draw
    y, x, aspect, *_ = uniform(seed, f"{stream} block", positions, 3).unbind(1)
    stretch = torch.exp(math.log(0.3) * (1 - 2 * aspect)).sqrt()[:, None, None]
    lines = torch.arange(grid, device=positions.device) + 0.5
    rows = (lines[None, :, None] - grid * y[:, None, None]).abs() * stretch
    columns = (lines[None, None, :] - grid * x[:, None, None]).abs() / stretch
    ties = uniform(seed, stream, positions, grid**2) * 1e-6
    return -torch.maximum(rows, columns).flatten(1) + ties


def _gaussian(draw: Draw) -> Tensor:
    """Order patches by a uniform number plus a Gaussian density around the image's centre, the largest first (GLIP,
    Liang and Larson 2024, arXiv 2403.15837; as in its code, with `gaussian_variance` over [-1, 1])."""
    assert draw.masking is not None
    variance = draw.masking.gaussian_variance
    line = torch.linspace(-1, 1, draw.grid, dtype=torch.float64, device=draw.positions.device)
    density = torch.exp(-(line[:, None] ** 2 + line**2) / (2 * variance)) / (2 * math.pi * variance)
    return -(uniform(draw.seed, draw.stream, draw.positions, draw.grid**2) + density.flatten())


def _anchored(*parts: str) -> Keys:
    """Order patches by how little they look like an anchor (flip.model.pixel_masks)."""

    def keys(draw: Draw) -> Tensor:
        assert draw.masking is not None
        assert draw.images is not None
        share = draw.masking.anchors
        return near_anchors(draw.seed, draw.stream, draw.positions, draw.images, draw.grid, share, frozenset(parts))

    return keys


def _attentive(draw: Draw) -> Tensor:
    """Order patches by how much they are looked at, the most first (A-CLIP, Yang et al. 2023, arXiv 2212.08653)."""
    assert draw.attention is not None
    assert draw.images is not None
    return -draw.attention(draw.images)


PATCHES: dict[str, Keys] = {
    "random": _random,
    "grid": _grid,
    "block": _block,
    "gaussian": _gaussian,
    "cluster": _anchored(),
    "pgs": _anchored("edges", "transport"),
    "pgs-edges": _anchored("edges"),
    "pgs-transport": _anchored("transport"),
    "attentive": _attentive,
}


def mask_patches(
    seed: int,
    positions: Tensor,
    patches: int,
    kept: int,
    masking: Masking | None = None,
    stream: str = "image",
    images: Tensor | None = None,
    attention: Callable[[Tensor], Tensor] | None = None,
) -> MaskOrder:
    """Draw which `kept` of a square image's patches each sample keeps, by `masking.image_policy`; None: at random.

    `positions`, int64 [batch], are those in the training order; what else policies read is in `Draw`.
    """
    policy = masking.image_policy if masking else "random"
    draw = Draw(seed, stream, positions, math.isqrt(patches), masking, images, attention)
    order = PATCHES[policy](draw).argsort(dim=1)
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


def highest_tokens(scores: Tensor, valid: Tensor, kept: int) -> Tensor:
    """Return the token positions with the highest scores, ascending: int64 [batch, kept], for float [batch, slots] and
    valid, bool [batch, slots]. Of equal ones the first is kept, and padding only where a caption has fewer tokens."""
    order = scores.masked_fill(~valid, -math.inf).sort(dim=1, descending=True, stable=True).indices
    return order[:, :kept].sort(dim=1).values


def mask_tokens(seed: int, positions: Tensor, valid: Tensor, kept: int, policy: str, stream: str = "text") -> Tensor:
    """Draw the token positions that are kept, ascending: int64 [batch, kept], for valid, bool [batch, slots].

    The policy `random` draws from all positions, padding included, and `prioritized` removes padding before tokens
    (FLIP, section 3); `truncation` keeps the first; `block` as many in a row from a random one on (CLIPF, Liang and
    Larson 2026, arXiv 2412.16148, compares these), so that padding is kept only where a caption has fewer.
    """
    slots = torch.arange(valid.shape[1], device=valid.device)
    if policy == "truncation":
        return slots[:kept].expand(len(valid), kept)
    if policy == "block":
        free = (valid.sum(dim=1) - kept).clamp(min=0) + 1  # places that a block can begin at
        first = (uniform(seed, stream, positions, 1)[:, 0] * free).long()
        return first[:, None] + slots[:kept]
    bits = logical_shift(random_bits(seed, stream, positions, valid.shape[1]), 1)
    if policy == "prioritized":
        bits = bits + (~valid).long() * 2**62
    return bits.argsort(dim=1)[:, :kept].sort(dim=1).values
