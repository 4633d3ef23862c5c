"""Describe the parameters of InfoNCE."""

from typing import ClassVar

from pydantic import Field

from flip.config.objectives.section import ObjectiveSection
from flip.config.sections.types import Weight


class Contrastive(ObjectiveSection):
    """Describe InfoNCE: the softmax loss of CLIP and FLIP."""

    aligns: ClassVar[bool] = True
    weight: Weight = Field(description="weight of the loss")
