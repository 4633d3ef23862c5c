"""Let an average of the image tower teach it (DINO, Caron et al. 2021; SILC, Naeem et al. 2023; iBOT, Zhou et al. 2022;
TIPS, Maninis et al. 2024).

The teacher sees the whole image, as the text losses do. The student sees small crops of it, and the image with some
patches masked. Both classify what they see by prototypes. The teacher's answers are sharper, and centred by a moving
average of their mean, so that neither one class for all nor all classes alike can be the answer.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.objectives.self_distillation import SelfDistillation
from flip.config.schema import Params
from flip.model.average import copy_weights, move_average
from flip.model.masking import mask_patches
from flip.model.towers import Towers
from flip.model.transformer import full_precision
from flip.model.vision import VisionEncoder, resampling

TARGETS = " targets"  # behind a loss's name: the teacher's answers


class PrototypeHead(nn.Module):
    """Compute cosines [..., prototypes] of states [..., width], after an MLP, with learned prototypes (DINO's head)."""

    def __init__(self, width: int, section: SelfDistillation):
        super().__init__()
        widths = (width, section.hidden, section.hidden, section.width)
        layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.GELU())]
        self.mlp = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Parameter(torch.randn(section.prototypes, section.width))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(self.mlp(x), dim=-1), F.normalize(self.prototypes, dim=-1))


def build_heads(params: Params) -> nn.ModuleDict:
    """Build a head for each loss that has a weight."""
    section, width = params.self_distillation, params.model.vision.width
    return nn.ModuleDict({name: PrototypeHead(width, section) for name in section.weights if getattr(section, name)})


class Center(nn.Module):
    """Keep a moving average of the mean answer [prototypes] over all samples of a step."""

    value: Tensor
    total: Tensor

    def __init__(self, prototypes: int):
        super().__init__()
        self.register_buffer("value", torch.zeros(prototypes))
        self.register_buffer("total", torch.zeros(prototypes), persistent=False)  # of this step so far

    def forward(self, answers: Tensor) -> Tensor:
        """Subtract the average from answers [batch, ..., prototypes], and note these."""
        self.total += answers.flatten(1, -2).mean(1).sum(0) if answers.ndim > 2 else answers.sum(0)
        return answers - self.value

    def update(self, total: Tensor, samples: int, share: Tensor) -> None:
        """Move the average by a `share`, a scalar, towards the mean of a step: a `total` over so many samples."""
        moved = self.value.lerp(total / samples, share)
        self.value.copy_(torch.where(share > 0, moved, self.value))  # a total that is not finite stays out
        self.total.zero_()


class Teacher(nn.Module):
    """Hold the averages of the image tower and of the heads, without gradients, and a center per head."""

    def __init__(self, params: Params):
        super().__init__()
        self.vision = VisionEncoder(params.model, params.form.vision)
        self.heads = build_heads(params)
        self.requires_grad_(False)
        self.centers = nn.ModuleDict({name: Center(params.self_distillation.prototypes) for name in self.heads})
        self.temperature = params.self_distillation.teacher_temperature

    def answer(self, name: str, states: Tensor) -> Tensor:
        """Classify states [batch, ..., width]: probabilities [batch, ..., prototypes]."""
        answers = full_precision(self.heads[name](states))
        return (self.centers[name](answers) / self.temperature).softmax(dim=-1)


class SelfDistilled(nn.Module):
    """Compute the student's logits and the teacher's answers, for each loss that has a weight.

    `local`: [batch, crops, prototypes], and answers [batch, 1, prototypes]. `masked`: [batch, masked, prototypes], and
    answers alike.
    """

    resample: Tensor

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        self.section, model = params.self_distillation, params.model
        self.patches = model.patches
        self.heads = build_heads(params)
        self.patch_mask = nn.Parameter(0.02 * torch.randn(model.vision.width)) if self.section.masked else None
        self.teacher = Teacher(params)
        if self.section.local:
            crop = self.section.crop_grid(model.grid)
            self.register_buffer("resample", resampling(model.grid, crop), persistent=False)

    def forward(self, towers: Towers, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        vision, teacher, images = towers.vision, self.teacher, batch["images"]
        outputs = {}
        with torch.no_grad():
            encoded = teacher.vision(images)
        if self.section.local:
            crops = batch["views"]
            seen = vision.feature(crops.flatten(0, 1), positions=self.resample @ vision.positions)
            with torch.no_grad():
                outputs["local" + TARGETS] = teacher.answer("local", teacher.vision.pool(encoded)[:, None])
            outputs["local"] = self._logits("local", seen.unflatten(0, crops.shape[:2]))
        if self.section.masked:
            slots, masked = self._masked(seed, batch["positions"])
            states = vision.transformer.norm(vision.pre_norm_states(images, masked, self.patch_mask))
            of, to = (one.patches(x).take_along_dim(slots, 1) for one, x in ((vision, states), (vision, encoded)))
            with torch.no_grad():
                outputs["masked" + TARGETS] = teacher.answer("masked", to)
            outputs["masked"] = self._logits("masked", of)
        return outputs

    def _logits(self, name: str, states: Tensor) -> Tensor:
        return full_precision(self.heads[name](states)) / self.section.temperature

    def _masked(self, seed: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Draw which patches are masked: int64 [batch, masked, 1], and bool [batch, patches]."""
        count = self.section.masked_patches(self.patches)
        order = mask_patches(seed, positions, self.patches, count, stream="self-distillation")
        return order.ids_keep[:, :, None], order.ids_restore < count

    def begin(self, vision: VisionEncoder) -> None:
        """Let the teacher begin as the student is."""
        copy_weights(self.teacher.vision, vision)
        copy_weights(self.teacher.heads, self.heads)

    def follow(self, vision: VisionEncoder, totals: dict[str, Tensor], samples: int, kept: Tensor) -> None:
        """Move the teacher towards the student, and centers to the mean of a step's `totals` over so many samples.

        `kept` is a scalar on the device: 1, or 0 where the step changes nothing.
        """
        move_average(self.teacher.vision, vision, kept * (1 - self.section.momentum))
        move_average(self.teacher.heads, self.heads, kept * (1 - self.section.momentum))
        for name, total in totals.items():
            center: Any = self.teacher.centers[name]
            center.update(total, samples, kept * (1 - self.section.center_momentum))
