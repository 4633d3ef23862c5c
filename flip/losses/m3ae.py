"""Pixels and words of a masked pass over both (M3AE, Geng et al. 2022, released code; MAE-CLIP): each sample's mean
over what was removed of it, then the mean over samples, so that a batch's loss is that of its parts."""

import torch.nn.functional as F
from torch import Tensor

from flip.config.schema import Params
from flip.losses.mae import Pixels


def sample_mean(loss: Tensor, removed: Tensor) -> Tensor:
    """Mean over samples of each one's mean over what was removed, [batch, slots] both; 0 where nothing was."""
    return ((loss * removed).sum(dim=1) / removed.sum(dim=1).clamp(min=1)).mean()


class PixelError:
    """Mean squared error on removed patches."""

    joint = False

    def __init__(self, params: Params):
        self.weight = params.generative.pixels
        self.targets = Pixels(params, params.generative.normalize)

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        error = (outputs["pixels"] - self.targets(batch["images"])).square().mean(dim=-1)
        return {"pixels": self.weight * sample_mean(error, outputs["removed_patches"])}


class WordEntropy:
    """Cross-entropy of removed words over the vocabulary; captions of which none is removed count as 0."""

    joint = False

    def __init__(self, params: Params):
        self.weight = params.generative.words

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        removed, logits = outputs["removed_words"], outputs["words"]
        found = F.cross_entropy(logits, batch["ids"][removed], reduction="none")
        placed = found.new_zeros(removed.shape).masked_scatter(removed, found)
        return {"words": self.weight * sample_mean(placed, removed)}
