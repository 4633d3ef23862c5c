"""InfoNCE between the pictures and captions of a batch (CLIP; FLIP, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Contrastive:
    """Mean of the image-to-text and text-to-image cross entropies over the global batch."""

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = outputs["scale"] * outputs["image"] @ outputs["text"].T
        target = torch.arange(len(logits), device=logits.device)
        return {"contrastive": (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2}
