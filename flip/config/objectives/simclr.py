"""Describe the parameters of SimCLR's loss."""

from typing import ClassVar

from pydantic import Field

from flip.config.objectives.section import IMAGE, Facts, ObjectiveSection
from flip.config.sections.data import Views
from flip.config.sections.types import Temperature, Weight, Width


class SimCLR(ObjectiveSection):
    """Describe how two views of an image find each other among all others (Chen et al. 2020), as SLIP adds it to
    CLIP."""

    trains_pooling: ClassVar[bool] = True
    facts: ClassVar[Facts] = {"SimCLR weight": (lambda one: f"{one.weight:g}", ("weight",))}

    weight: Weight = Field(description="weight of the loss; 0 makes no views")
    temperature: Temperature = Field(description="temperature by which cosines are divided")
    hidden: Width = Field(description="width of the projection head's two hidden layers")
    width: Width = Field(description="width of the space in which views are compared")
    views: Views

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE})
