"""Parameters of the losses: what is minimised, and the heads and passes that are built for it."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from flip.config.sections.data import Views
from flip.config.sections.model import Model, Tower
from flip.config.sections.types import Section, Share, Temperature, Weight, Width


class Logits(Section):
    """How cosines become logits: times a scale that is learned."""

    temperature: Temperature = Field(description="1 / scale at the start")
    max_scale: float | None = Field(
        description="the scale is kept between 1 and this; null: free, as in SigLIP", gt=1, le=1e4
    )

    @model_validator(mode="after")
    def begins_in_range(self):
        if self.max_scale is not None and not 1 <= 1 / self.temperature <= self.max_scale:
            raise ValueError(
                f"temperature = {self.temperature:g} begins at a scale of {1 / self.temperature:g}; allowed: "
                f"{1 / self.max_scale:g} to 1, or null for max_scale"
            )
        return self


class Contrastive(Section):
    """InfoNCE: the softmax loss of CLIP and FLIP."""

    weight: Weight = Field(description="weight of the loss")


class Sigmoid(Section):
    """The pairwise loss of SigLIP (Zhai et al. 2023, Algorithm 1)."""

    weight: Weight = Field(description="weight of the loss; 0 builds no bias")
    bias: Annotated[float, Field(ge=-1000, le=1000)] | Literal["matched"] | None = Field(
        description="learned bias of the logits at the start; matched: log 1 / (batch - 1), the prior; null: no bias"
    )

    def initial_bias(self, batch: int) -> float | None:
        """Before the first step with a global batch of so many pairs; None where there is no such parameter."""
        if not self.weight or self.bias is None:
            return None
        return -math.log(max(batch - 1, 1)) if self.bias == "matched" else self.bias


class Decoder(Tower):
    """A tower over patches, whose positions have two dimensions."""

    @model_validator(mode="after")
    def has_positions(self):
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4, as 2-D positions need")
        return self


class Generative(Decoder):
    """A masked pass over pictures and captions together, and its decoder's size (M3AE, Geng et al. 2022; MAE-CLIP)."""

    pixels: Weight = Field(description="weight of the error of removed patches, MAE-CLIP's w_i; 0: not predicted")
    words: Weight = Field(description="weight of the entropy of removed words, MAE-CLIP's w_t; 0: not predicted")
    mask_image: Share = Field(description="share of patches removed in this pass; a class token always stays")
    mask_text: Share = Field(description="share of token slots removed in this pass, padding like words")
    encoder: Literal["separate", "shared"] = Field(
        description="each tower encodes what is left of its own side (MAE-CLIP), or the vision tower of both (M3AE)"
    )
    normalize: bool = Field(description="pixels are predicted normalised per patch")

    @property
    def wanted(self) -> bool:
        """Whether there is such a pass."""
        return bool(self.pixels or self.words)

    def kept(self, model: Model) -> tuple[int, int]:
        """Patches and token slots that are left: int(slots x (1 - share)), as in MAE and M3AE."""
        return int(model.patches * (1 - self.mask_image)), int(model.tokens * (1 - self.mask_text))

    @model_validator(mode="after")
    def is_possible(self):
        for weight, share in (("pixels", "mask_image"), ("words", "mask_text")):
            if getattr(self, weight) and not getattr(self, share):
                raise ValueError(f"{weight} needs something removed: set {share} above 0, or {weight} to 0")
        return self


class Reconstruction(Decoder):
    """MAE's head (FLIP, Table 1f; MAE, section 3)."""

    weight: Weight = Field(description="weight of the loss beside the contrastive one; 0 builds no decoder")
    normalize: bool = Field(description="targets are normalised per patch")

    @property
    def wanted(self) -> bool:
        """Whether there is a decoder."""
        return bool(self.weight)


class SimCLR(Section):
    """Two views of a picture find each other among all others (Chen et al. 2020), as SLIP adds it to CLIP."""

    weight: Weight = Field(description="weight of the loss beside the contrastive one; 0 makes no views")
    temperature: Temperature = Field(description="cosines are divided by it")
    hidden: Width = Field(description="width of the projection head's two hidden layers")
    width: Width = Field(description="width of the space in which views are compared")
    views: Views
