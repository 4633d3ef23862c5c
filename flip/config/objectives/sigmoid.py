"""Describe the parameters of the pairwise sigmoid loss."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from flip.config.objectives.section import ObjectiveSection
from flip.config.sections.types import Weight


class Sigmoid(ObjectiveSection):
    """Describe the pairwise loss of SigLIP (Zhai et al. 2023, Algorithm 1)."""

    aligns: ClassVar[bool] = True
    weight: Weight = Field(description="weight of the loss; 0 builds no bias")
    bias: Annotated[float, Field(ge=-1000, le=1000)] | Literal["matched"] | None = Field(
        description="initial value of the learned bias of the logits; matched: log 1 / (batch - 1), the prior; null: "
        "no bias"
    )

    def initial_bias(self, batch: int) -> float | None:
        """Return the initial bias for a global batch of so many pairs; None without such a parameter."""
        if not self.weight or self.bias is None:
            return None
        return -math.log(max(batch - 1, 1)) if self.bias == "matched" else self.bias
