"""Compute the cross entropy of each token of a caption, given its image and the tokens before it (CoCa, Yu et al. 2022;
CapPa, Tschannen et al. 2023)."""

import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.losses.generative import sample_mean
from flip.losses.objective import Batch, Objective, Setting
from flip.model.captioning import CaptionDecoder, count_predicted, predicted
from flip.model.packing import masked_tokens, put_tokens


class CaptioningObjective(Objective):
    """Average the cross entropy over the tokens of each caption, then over captions; one without tokens counts as 0."""

    reads_patches = True

    def __init__(self, setting: Setting):
        self.params, self.weight = setting.params, setting.params.captioning.weight

    @classmethod
    def reads_tokens(cls, params: Params) -> bool:
        return params.captioning.input == "text_tower"

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return CaptionDecoder(params, vocabulary)

    def prepare(self, batch: Batch) -> Batch:
        """Count the tokens in main memory, where their number is then known."""
        return count_predicted(self.params, batch)

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        ids, valid = predicted(self.params, batch["ids"])
        logits = outputs["captions"]
        found = F.cross_entropy(logits, masked_tokens(ids, valid, len(logits)), reduction="none")
        losses = put_tokens(found.new_zeros(valid.shape), valid, found)
        return {"captioning": self.weight * sample_mean(losses, valid)}
