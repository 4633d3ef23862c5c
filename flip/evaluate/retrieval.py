"""Compute image and text retrieval as clip-benchmark does, without the full matrix of scores.

A caption finds its image among the first k if fewer than k others score higher; an image finds a caption if the best
of its own does. So scores are compared with the one that is right and neither sorted nor kept. Of equal scores the
earlier one in the set is ranked first; equal captions have equal scores, and so have equal images.
"""

import numpy as np
import torch
import torch.nn.functional as F
from clip_benchmark.metrics import zeroshot_retrieval as benchmark
from torch import Tensor

from flip.evaluate.distinct import Firsts, encode_texts, exact
from flip.evaluate.encoders import Full, ImageLoader, Tokenize
from flip.metrics.scoring import by_image
from flip.metrics.sets import RECALLS

ROWS = 256  # images whose scores with as many images' captions are held at once: they stay in a core's cache


@torch.no_grad()
def embed(encoder: Full, tokenize: Tokenize, loader: ImageLoader, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit features of images [images, d] and captions [captions, d], and each caption's image [captions]."""
    images, alike, ids, owners = [], Firsts(), [], []
    for batch, captions, numbers in benchmark.dataloader_with_indices(loader):
        images.append(F.normalize(encoder.encode_image(batch.to(device)), dim=-1).cpu())
        alike.add(batch)
        ids.append(tokenize([text for group in captions for text in group]))
        owners.append(numbers.repeat_interleave(torch.tensor([len(group) for group in captions])))
    texts = encode_texts(lambda some: F.normalize(encoder.encode_text(some), dim=-1), torch.cat(ids), device)
    return torch.cat(images)[alike.places], texts, torch.cat(owners)


def own(scores: Tensor, owners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the right scores among scores [images, captions] of images and their own captions, with `owners`
    [captions]: of each caption with its image [captions]; of each image with the best of its captions [images], and the
    index of that, the earliest of equal ones."""
    images, captions = scores.shape
    right = scores.gather(0, owners[None])[0]
    best = scores.new_full((images,), -torch.inf).scatter_reduce(0, owners, right, "amax")
    places = torch.arange(captions, device=scores.device).where(right == best[owners], captions)
    return right, best, owners.new_full((images,), captions).scatter_reduce(0, owners, places, "amin")


def not_ahead(scores: Tensor, right: Tensor, earlier: bool | Tensor, dim: int) -> Tensor:
    """Count how many of the scores along `dim` are not ranked before the right one; `earlier` says of which a tie is.

    A score that is not a number is ahead of all, so that a model that gives none finds nothing.
    """
    # Sums of floating-point numbers are several times faster than sums of booleans, and exact below 2^24.
    if isinstance(earlier, bool):
        behind = (torch.lt if earlier else torch.le)(scores, right, out=torch.empty_like(scores))
    else:
        behind = ((scores < right) | ((scores == right) & ~earlier)).to(scores.dtype)
    return behind.sum(dim).long()


@torch.no_grad()
def ranks(images: Tensor, texts: Tensor, owners: Tensor, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Return the rank of each caption's image among all images [captions], and of the best of each image's captions
    among all captions [images]; first is 1, and an image without captions is past all of them.

    Args:
        images, texts: features [images, d] and [captions, d], of at most unit length.
        owners: each caption's image [captions], ascending.
        rows: images in a block; memory holds the scores of a block with the captions of another, and all features
            in float64: scores without rounding, for twice the time.
    """
    images, texts = exact(images), exact(texts)
    starts = torch.arange(0, len(images), rows, device=owners.device)
    edges = [*torch.searchsorted(owners, starts).tolist(), len(texts)]
    blocks = [(slice(s, s + rows), slice(*edges[n : n + 2])) for n, s in enumerate(starts.tolist())]
    right, best = images.new_empty(len(texts)), images.new_empty(len(images))
    of_texts, of_images = (
        owners.new_full((len(texts),), len(images) + 1),
        owners.new_full((len(images),), len(texts) + 1),
    )
    for some, words in blocks:  # those that belong together first: all others are compared with what is right in them
        scores, mine = images[some] @ texts[words].T, owners[words] - some.start
        right[words], best[some], at = own(scores, mine)
        down, along = (torch.arange(size, device=scores.device) for size in scores.shape)
        of_texts[words] -= not_ahead(scores, right[words], down[:, None] < mine, 0)
        of_images[some] -= not_ahead(scores, best[some, None], along < at[:, None], 1)
    for n, (some, _) in enumerate(blocks):
        for m, (_, words) in enumerate(blocks):
            if n != m:
                scores = images[some] @ texts[words].T
                of_texts[words] -= not_ahead(scores, right[words], n < m, 0)
                of_images[some] -= not_ahead(scores, best[some, None], m < n, 1)
    return of_texts, of_images


def outcomes(encoder: Full, tokenize: Tokenize, loader: ImageLoader, device: str) -> dict[str, np.ndarray]:
    """Return 1 where a right answer is among the first k, else 0: per image (text-rk), float32 [images], and per
    caption (image-rk), as `by_image` stores them."""
    images, texts, owners = (one.to(device) for one in embed(encoder, tokenize, loader, device))
    of_texts, of_images = ranks(images, texts, owners)
    found = {}
    sides = ("image", of_texts, owners, images), ("text", of_images, torch.arange(len(images)), texts)
    for side, rank, items, among in sides:
        for k in (k for k in RECALLS if k <= len(among)):
            found[f"{side}-r{k}"] = by_image((rank <= k).cpu().numpy(), items.cpu().numpy())
    return found
