"""Describe the parameters of MAE's decoder and its loss."""

from typing import Any, ClassVar

from pydantic import Field

from flip.config.objectives.section import IMAGE, Facts, ObjectiveSection
from flip.config.sections.model import Decoder
from flip.config.sections.types import Weight


class Reconstruction(Decoder, ObjectiveSection):
    """Describe MAE's decoder (FLIP, Table 1f; MAE, section 3)."""

    facts: ClassVar[Facts] = {
        "pixels": (lambda one: "raw" if one.weight and not one.normalize else "", ("normalize",)),
        "reconstruction weight": (lambda one: f"{one.weight:g}", ("weight",)),
    }

    weight: Weight = Field(description="weight of the loss; 0 builds no decoder")
    normalize: bool = Field(description="normalise targets per patch")

    @property
    def reads_patches(self) -> bool:
        return True

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE})

    def check(self, params: Any) -> None:
        if not params.masking.image:
            raise ValueError(
                "reconstruction.weight needs removed patches: set masking.image above 0, or the weight to 0"
            )
