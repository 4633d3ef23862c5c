"""Compute the cross entropy between the answers of a teacher and those of the image tower (DINO, Caron et al. 2021;
iBOT, Zhou et al. 2022)."""

from typing import Any

from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.views import ViewSet
from flip.losses.objective import Batch, Objective, Setting
from flip.model.self_distillation import TARGETS, SelfDistilled
from flip.model.two_towers import TwoTowers


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Average the cross entropy of logits [..., classes] with probabilities [..., classes], which may broadcast."""
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


class SelfDistillationObjective(Objective):
    """Average over crops, or masked patches, of which each image has the same number."""

    def __init__(self, setting: Setting):
        self.params, self.section, self.group = setting.params, setting.params.self_distillation, setting.group

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return SelfDistilled(params, vocabulary)

    @classmethod
    def views(cls, params: Params) -> ViewSet | None:
        section, model = params.self_distillation, params.model
        side = section.crop_grid(model.grid) * model.patch
        return ViewSet(section.views, section.crops, side) if section.local else None

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        wanted = {name: weight for name in self.section.weights if (weight := getattr(self.section, name))}
        return {name: weight * cross_entropy(outputs[name], outputs[name + TARGETS]) for name, weight in wanted.items()}

    def begin(self, model: TwoTowers) -> None:
        assert model.vision is not None
        self._module(model).begin(model.vision)

    def follow(self, model: TwoTowers, spoilt: Tensor) -> None:
        assert model.vision is not None
        module = self._module(model)
        totals = {name: self.group.sum(center.total) for name, center in module.teacher.centers.items()}
        module.follow(model.vision, totals, self.params.train.global_batch, 1 - spoilt)

    def _module(self, model: TwoTowers) -> Any:
        return model.passes["self_distillation"]
