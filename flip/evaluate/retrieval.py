"""Image and text retrieval: recall at k as clip-benchmark defines it, from the place of the best right answer.

clip-benchmark sorts, once for each k, and marks what it finds in an array of answers x k x candidates. Here the wrong
ones that score higher are counted, for all k at once; of equal scores the earlier one comes first.
"""

import numpy as np
import torch
import torch.nn.functional as F
from clip_benchmark.metrics import zeroshot_retrieval as benchmark

RECALLS = (1, 5, 10)
ROWS = 255  # captions at a time: what is compared stays in a processor's cache, and a byte counts them


@torch.no_grad()
def embed(encoder, tokenize, loader, device: str):
    """Unit features of pictures [pictures, d] and captions [captions, d], and each caption's picture [captions]."""
    images, texts, owners = [], [], []
    for batch, captions, numbers in benchmark.dataloader_with_indices(loader):
        images.append(F.normalize(encoder.encode_image(batch.to(device)), dim=-1).cpu())
        words = tokenize([text for group in captions for text in group]).to(device)
        texts.append(F.normalize(encoder.encode_text(words), dim=-1).cpu())
        owners += [int(n) for n, group in zip(numbers, captions, strict=True) for _ in group]
    return torch.cat(images), torch.cat(texts), torch.tensor(owners)


def places(scores: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many candidates come before the best right one: of each caption's pictures [captions] and each picture's
    captions [pictures], for scores [captions, pictures] and each caption's picture [captions]. A picture without
    captions has all before it."""
    captions, pictures = scores.shape
    numbers, columns = np.arange(captions), np.arange(pictures)
    right = scores[numbers, owners]
    best = np.full(pictures, -np.inf, scores.dtype)
    with np.errstate(invalid="ignore"):  # what is not a number is no answer
        np.maximum.at(best, owners, right)
    top = right == best[owners]
    first = np.full(pictures, captions)
    np.minimum.at(first, owners[top], numbers[top])
    of_caption, of_picture = np.empty(captions, np.int64), np.zeros(pictures, np.int64)
    for start in range(0, captions, ROWS):
        rows = slice(start, start + ROWS)
        some, own = scores[rows], right[rows, None]
        before = ~(some <= own)  # all, where the right one is not a number
        if np.count_nonzero(equal := some == own) > len(some):
            before |= equal & (columns < owners[rows, None])
        of_caption[rows] = np.count_nonzero(before, axis=1)
        before = ~(some <= best)
        if np.count_nonzero(equal := some == best) > np.count_nonzero(top[rows]):
            before |= equal & (numbers[rows, None] < first)
        of_picture += before.view(np.uint8).sum(axis=0, dtype=np.uint8)
    return of_caption, of_picture


def outcomes(encoder, tokenize, loader, device: str) -> dict[str, np.ndarray]:
    """1 where a right answer is among the first k, else 0: float32, per caption (image-rk) and picture (text-rk)."""
    images, texts, owners = embed(encoder, tokenize, loader, device)
    found = places((texts @ images.T).numpy(), owners.numpy())
    sides = (("image", found[0], len(images)), ("text", found[1], len(texts)))
    return {
        f"{side}-r{k}": (before < k).astype(np.float32)
        for side, before, candidates in sides
        for k in RECALLS
        if k <= candidates
    }
