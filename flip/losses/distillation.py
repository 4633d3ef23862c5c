"""Compute how far a batch's similarities are from a teacher's: affinity mimicking (TinyCLIP, Wu et al. 2023), which
MobileCLIP's distillation is, too (Vasu et al. 2024).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.schema import Params
from flip.losses.objective import Batch, Objective, Scope, Setting
from flip.losses.tiling import SINGLE_PROCESS, BatchGroup, pick_side, strips
from flip.model.transformer import full_precision, recomputed


class DistillationObjective(Objective):
    """Average the divergences of image-to-text and text-to-image similarities over the global batch."""

    scope = Scope.GLOBAL_BATCH  # similarities are normalized over all pairs

    def __init__(self, setting: Setting):
        self.section, self.group = setting.params.distillation, setting.group

    @classmethod
    def example(cls, params: Params, batch: Batch) -> Batch:
        """Add a teacher's embeddings, as wide as the student's, for which nothing is known here."""
        rows = torch.empty(len(batch["positions"]), params.embedding)
        return batch | {"teacher_image": rows, "teacher_text": rows.clone()}

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        student = outputs["image"], outputs["text"]
        teacher = batch["teacher_image"], batch["teacher_text"]
        loss = affinity(student, teacher, outputs["scale"], self.section.temperature, group=self.group)
        return {"distillation": self.section.weight * loss}


def affinity(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    scale: Tensor,
    temperature: float,
    side: int | None = None,
    group: BatchGroup = SINGLE_PROCESS,
) -> Tensor:
    """Compute the mean of KL(teacher || student) over the rows of the softmax of similarities, images against captions
    and captions against images; in float32 at least.

    `student` are image and text features [pairs, width] of unit length, whose cosines are multiplied by `scale`;
    `teacher` are another model's [pairs, its width] of any length, whose cosines are divided by `temperature`. `side`
    is how many rows of a matrix are held at a time, each computed twice; None computes small batches whole. Where
    `group` has several processes, each holds its pairs and gets its part of the loss, a sum.
    """
    ours = [full_precision(x) for x in student]
    theirs = [F.normalize(full_precision(x), dim=-1) for x in teacher]
    side = pick_side(ours[0], side, group.size)
    total: Tensor = scale.new_zeros(())
    for rows, columns in ((0, 1), (1, 0)):
        every, known = group.all_gather(ours[columns]), group.all_gather(theirs[columns])
        parts = [slice(None)] if side is None else strips(len(ours[rows]), side)
        for part in parts:
            inputs = ours[rows][part], every, scale, theirs[rows][part], known, temperature
            total = total + (divergence(*inputs) if side is None else recomputed(divergence, *inputs))
    return total / (2 * group.size * len(ours[0]))


def divergence(
    rows: Tensor, columns: Tensor, scale: Tensor, teacher_rows: Tensor, teacher_columns: Tensor, temperature: float
) -> Tensor:
    """Compute KL(teacher || student), summed over rows [rows, width] against columns [columns, width] of each."""
    found = (scale * rows @ columns.T).log_softmax(dim=-1)
    wanted = (teacher_rows @ teacher_columns.T / temperature).log_softmax(dim=-1)
    return F.kl_div(found, wanted, reduction="sum", log_target=True)
