"""Compute InfoNCE between images and parts of their captions (CLIPS, Liu et al. 2024)."""

import torch
from torch import Tensor, nn

from flip.config.schema import Params
from flip.losses.contrastive import info_nce
from flip.losses.objective import Batch, Objective, Scope, Setting
from flip.model.sub_captions import PartFeatures, draw_parts


class SubCaptionsObjective(Objective):
    """Average InfoNCE over the parts of captions, each among those of the global batch that were drawn with it."""

    scope = Scope.GLOBAL_BATCH  # every part is a negative of every other image

    def __init__(self, setting: Setting):
        self.params, self.seed, self.group = setting.params, setting.seed, setting.group

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return PartFeatures(params)

    def prepare(self, batch: Batch) -> Batch:
        """Draw the parts in main memory, where their lengths are then known."""
        return draw_parts(self.params, batch, self.seed)

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image, scale = outputs["image"], outputs["scale"]
        losses = [info_nce(image, part, scale, group=self.group) for part in outputs["parts"].unbind(1)]
        return {"sub_captions": self.params.sub_captions.weight * torch.stack(losses).mean()}
