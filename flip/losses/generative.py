"""Compute the errors of the pixels and tokens that a masked forward over both predicts (M3AE, Geng et al. 2022;
MAE-CLIP).

As in the released code, it is the mean over what was removed of each sample, then over samples, so that a batch's loss
is the mean of its parts'.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.losses.objective import Batch, Objective, Setting
from flip.losses.reconstruction import Pixels
from flip.model.m3ae import CrossModal, draw_tokens
from flip.model.packing import masked_tokens, put_tokens


def sample_mean(loss: Tensor, removed: Tensor) -> Tensor:
    """Average [batch, slots] over what was `removed`, bool [batch, slots], of each sample, then over samples: a scalar;
    a sample of which nothing was removed counts as 0."""
    return ((loss * removed).sum(dim=1) / removed.sum(dim=1).clamp(min=1)).mean()


class GenerativeObjective(Objective):
    """Predict removed patches, by mean squared error, and removed tokens, by cross entropy over the vocabulary.

    Captions of which no token is removed count as 0.
    """

    def __init__(self, setting: Setting):
        self.params, self.seed, self.section = setting.params, setting.seed, setting.params.generative
        self.targets = Pixels(setting.params, self.section.normalize, setting.device)

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return CrossModal(params, vocabulary)

    def prepare(self, batch: Batch) -> Batch:
        """Draw which tokens are visible in main memory, where their number is then known."""
        return draw_tokens(self.params, batch, self.seed)

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = {}
        if self.section.pixels:
            losses["pixels"] = self.section.pixels * self._pixels(batch, outputs)
        if self.section.words:
            losses["words"] = self.section.words * self._words(batch, outputs)
        return losses

    def _pixels(self, batch: Batch, outputs: dict[str, Tensor]) -> Tensor:
        error = (outputs["pixels"] - self.targets(batch["images"])).square().mean(dim=-1)
        return sample_mean(error, outputs["removed_patches"])

    def _words(self, batch: Batch, outputs: dict[str, Tensor]) -> Tensor:
        removed = outputs["removed_words"]
        ids = masked_tokens(batch["ids"], removed, len(outputs["words"]))
        found = F.cross_entropy(outputs["words"], ids, reduction="none")
        return sample_mean(put_tokens(found.new_zeros(removed.shape), removed, found), removed)
