"""FLAVA's losses beside the contrastive one: cross entropies of hidden patches' codes, of hidden words, and of whether
a caption is the picture's own (Singh et al. 2022, section 3.1; definitions as in their released code).

The contrastive loss reads pictures and captions as they came, so that mismatched pairs leave it alone. The released
code gives it the mismatched captions, and drops their rows, while their columns stay.
"""

import torch.nn.functional as F
from torch import Tensor

from flip.config.schema import Params
from flip.data.batch_types import IMAGES, PAIRS, TEXTS


class MaskedModeling:
    """Cross entropy of what is hidden, averaged over all that is hidden in the global batch.

    Pairs hide different numbers of patches or words, so each pair's sum comes with the factor that makes the mean over
    pairs that average (batch["<name>_factor"]; flip.train.targets); where nothing is hidden, it is 0.
    """

    joint = False

    def __init__(self, name: str, weight: float, masked: str, targets: str):
        self.name, self.weight, self.masked, self.targets = name, weight, masked, targets
        self.reads = {"mim": {PAIRS, IMAGES}, "mlm": {PAIRS, TEXTS}}.get(name, {PAIRS})

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        masked, logits = batch[self.masked], outputs[self.name]
        losses = F.cross_entropy(logits, batch[self.targets][masked], reduction="none")
        factors = batch[f"{self.name}_factor"][:, None].expand_as(masked)[masked].to(losses.dtype)
        return {self.name: self.weight * (losses * factors).sum() / len(masked)}


class Matching:
    """Cross entropy of "the caption is the picture's own", over all pairs."""

    joint = False

    def __init__(self, weight: float):
        self.weight = weight

    def __call__(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"itm": self.weight * F.cross_entropy(outputs["itm"], (~batch["mismatched"]).long())}


def flava_losses(params: Params) -> list:
    """All of them; those without a weight are for the caller to leave out."""
    flava = params.flava
    patches, words = ("masked_patches", "codes"), ("masked_words", "words")
    read = {"mim": patches, "mlm": words, "mmm_image": patches, "mmm_text": words}
    return [*(MaskedModeling(name, getattr(flava, name), *keys) for name, keys in read.items()), Matching(flava.itm)]
