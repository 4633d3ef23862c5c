"""Describe the parameters of distillation from stored embeddings of a teacher."""

from typing import Any, ClassVar

from pydantic import Field

from flip.config.objectives.section import Facts, ObjectiveSection
from flip.config.sections.types import Place, Temperature, Weight


class Distillation(ObjectiveSection):
    """Describe how alike the similarities of a batch's images and captions are to be to those of a trained model, whose
    embeddings of all pairs are computed once (MobileCLIP, Vasu et al. 2024)."""

    aligns: ClassVar[bool] = True
    facts: ClassVar[Facts] = {
        "distillation weight": (lambda one: f"{one.weight:g}", ("weight",)),
        "teacher": (lambda one: one.teacher or "" if one.weight else "", ("teacher",)),
    }

    weight: Weight = Field(description="weight of the loss; 0 reads no embeddings")
    teacher: Place | None = Field(description="teacher: a variant, or a folder (with a /) that `flip import` made")
    temperature: Temperature = Field(description="temperature by which the teacher's cosines are divided")

    @property
    def builds_on(self) -> str | None:
        return self.teacher

    def stored_as(self, variant: str) -> str | None:
        """Return the name of the stored embeddings: the teacher's or, where it is a folder, that of the `variant` which
        learns from it; None where nothing is learned from one."""
        if not self.weight or self.teacher is None:
            return None
        return variant if "/" in self.teacher else self.teacher

    def check(self, params: Any) -> None:
        if self.teacher is None or self.teacher == params.variant:
            raise ValueError("distillation.teacher: name another variant, or a folder that `flip import` made")
        if params.noise.any or params.captions.translated:
            raise ValueError(
                "distillation reads embeddings of the pairs as they are stored: set noise to 0 and captions.languages "
                "to one that is not translated, or distillation.weight to 0"
            )
