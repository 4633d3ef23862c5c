"""Choose patches by what they show: cluster masking, and CLIP-PGS with its edges and its optimal transport.

Patches that look like one of a few anchors are removed. What decides is computed from bytes, as sums of integers that
floats hold exactly: so a sample's mask is the same in any batch, on any number of processes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flip.device import without_autocast
from flip.model.vision import patchify
from flip.rng import uniform

CENTRE = 128  # that bytes are counted from, so that their products are small
EPSILON = 1e-6 * 255**2  # added to the variance of a patch's bytes; 1e-6 of pixels up to 1 in the released code
ITERATIONS = 10  # of Sinkhorn's algorithm; sums of rows then are 1 to about 1e-5
TIES = 1e-9  # weight of the random number that decides between patches that are alike


def _exact(pixels: int) -> torch.dtype:
    """Return the type whose sums of products of so many centred bytes are exact, in any order."""
    return torch.float32 if pixels * CENTRE**2 <= 2**24 else torch.float64


def cosines(images: Tensor, patch: int, rows: Tensor | None = None) -> Tensor:
    """Compute the cosine of patches that are each normalised by their own mean and variance: float64 [batch, rows,
    patches] of uint8 images [batch, side, side, 3]; `rows`, int64 [batch, rows], names those wanted, None: all.

    A patch of one colour is like none.
    """
    bytes_ = patchify(images, patch)
    pixels = bytes_.shape[-1]
    x = bytes_.to(_exact(pixels)) - CENTRE
    mean = x.sum(dim=-1).double() / pixels
    deviation = ((x * x).sum(dim=-1).double() / pixels - mean**2 + EPSILON).sqrt()
    chosen = x if rows is None else x.gather(1, rows[:, :, None].expand(-1, -1, pixels))
    with without_autocast(x.device):
        products = (chosen @ x.mT).double() / pixels
    own = (mean, deviation) if rows is None else (mean.gather(1, rows), deviation.gather(1, rows))
    covariance = products - own[0][:, :, None] * mean[:, None]
    return covariance / (own[1][:, :, None] * deviation[:, None])


def edges(images: Tensor, patch: int) -> Tensor:
    """Compute how much of an edge is in each patch, from 0 to 1 over an image: float64 [batch, patches].

    It is the mean of Sobel's gradient, |x| + |y|, of the sum of colours; the image's border has none.
    """
    gray = images.sum(dim=3, dtype=torch.int32)
    rows = gray[:, :-2] + 2 * gray[:, 1:-1] + gray[:, 2:]  # smoothed down
    columns = gray[:, :, :-2] + 2 * gray[:, :, 1:-1] + gray[:, :, 2:]
    across = (rows[:, :, 2:] - rows[:, :, :-2]).abs()
    down = (columns[:, 2:] - columns[:, :-2]).abs()
    strength = F.pad(across + down, (1, 1, 1, 1))[..., None]
    total = patchify(strength, patch).sum(dim=2).double()
    least, most = total.aminmax(dim=1, keepdim=True)
    return (total - least) / (most - least).clamp(min=1)


def transport(similarity: Tensor) -> Tensor:
    """Return the plan of entropic optimal transport between patches of equal weight, float64 [batch, patches, patches],
    for a symmetric similarity: exp of it, scaled so that each row and each column adds up to 1 (Sinkhorn; Cuturi 2013).

    As it is symmetric, one vector scales both.
    """
    kernel = similarity.exp()
    scale = kernel.new_ones(kernel.shape[:2])
    for _ in range(ITERATIONS):
        scale = (scale / (kernel @ scale[:, :, None])[..., 0]).sqrt()
    return scale[:, :, None] * kernel * scale[:, None]


def near_anchors(
    seed: int, stream: str, positions: Tensor, images: Tensor, grid: int, share: float, parts: frozenset[str]
) -> Tensor:
    """Order patches by how little they look like one of a few anchors: keys float64 [batch, patches], of which the
    smallest are kept.

    With no `parts` it is cluster masking (Wei, Pan, Owens 2024, arXiv 2405.08815): anchors are a random `share` of the
    patches. With "edges", they are rather where there are none, and with "transport" similarities are balanced by a
    plan of optimal transport: both are CLIP-PGS (Pei et al. 2025, arXiv 2503.17080).
    """
    patch, patches = images.shape[1] // grid, grid**2
    draws = uniform(seed, stream, positions, patches)
    order = draws + edges(images, patch) if "edges" in parts else draws
    anchors = order.argsort(dim=1)[:, : max(round(share * patches), 1)]
    if "transport" in parts:
        every = cosines(images, patch)
        similarity = (every + transport(every)).gather(1, anchors[:, :, None].expand(-1, -1, patches))
    else:
        similarity = cosines(images, patch, anchors)
    nearest = similarity.amax(dim=1)
    return nearest.scatter(1, anchors, torch.inf) + TIES * uniform(seed, f"{stream} ties", positions, patches)
