"""Image and text retrieval, by clip-benchmark's functions."""

import numpy as np
import torch
import torch.nn.functional as F
from clip_benchmark.metrics import zeroshot_retrieval as benchmark

RECALLS = (1, 5, 10)


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


def outcomes(encoder, tokenize, loader, device: str, batch: int) -> dict[str, np.ndarray]:
    """1 where a right answer is among the first k, else 0: float32, per caption (image-rk) and picture (text-rk)."""
    images, texts, owners = embed(encoder, tokenize, loader, device)
    scores = texts @ images.T
    right = owners[:, None] == torch.arange(len(images))
    found = {}
    for side, score, positive in (("image", scores, right), ("text", scores.T, right.T)):
        for k in (k for k in RECALLS if k <= score.shape[1]):
            recall = benchmark.batchify(benchmark.recall_at_k, score, positive, batch, device, k=k)
            found[f"{side}-r{k}"] = (recall > 0).numpy().astype(np.float32)
    return found
