"""Parameters of the model and of its losses: size, form, what is masked, what is minimised."""

import math
from typing import Literal

from pydantic import Field, model_validator

from flip.schema_data import Views
from flip.schema_types import Count, Positive, Section, Share


class Tower(Section):
    layers: Count
    width: Count
    heads: Count

    @model_validator(mode="after")
    def heads_divide_width(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Model(Section):
    """Size of the two towers (FLIP, Table 9). The MLP is four times as wide as its tower."""

    image: Count = Field(description="side of the input picture, pixels")
    patch: Count = Field(description="side of a patch, pixels")
    embedding: Count = Field(description="width of the common space, where form.vision projects into it")
    vision: Tower
    text: Tower
    tokens: Count = Field(description="caption length, tokens")

    @model_validator(mode="after")
    def patches_tile(self):
        if self.image % self.patch:
            raise ValueError(f"image {self.image} is not a multiple of patch {self.patch}")
        if self.vision.width % 4:
            raise ValueError(f"vision.width {self.vision.width} is not a multiple of 4, as 2-D positions need")
        return self

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image // self.patch

    @property
    def patches(self) -> int:
        return self.grid**2


class Blocks(Section):
    """What transformers of one size still differ in."""

    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = Field(
        description="exact, its tanh approximation (SigLIP's), or x sigmoid(1.702 x) (OpenAI's CLIP weights)"
    )
    norm_epsilon: Positive = Field(description="added to the variance in every LayerNorm")


class VisionForm(Blocks):
    pooling: Literal["mean", "class", "map", "max"] = Field(
        description="mean of the patches, a class token (CLIP), multi-head attention pooling (SigLIP), or the largest "
        "value of each channel (CLIPpy)"
    )
    positions: Literal["sincos", "learned"]
    pre_norm: bool = Field(description="LayerNorm before the blocks, too (CLIP)")
    patch_bias: bool = Field(description="bias of the patch projection")
    projection: Literal["none", "linear", "affine"] = Field(
        description="into the common space, without or with bias; none: that space is as wide as the tower"
    )
    mean: tuple[Share, Share, Share] = Field(
        description="subtracted from red, green and blue (0 to 1) before the towers see them"
    )
    std: tuple[Positive, Positive, Positive] = Field(description="what they are then divided by")


class TextForm(Blocks):
    pooling: Literal["mean", "last"] = Field(
        description="mean of the caption's tokens, or the state of the last one: the end token"
    )
    causal: bool = Field(description="a token sees only those before it")
    projection: Literal["linear", "affine"] = Field(description="into the common space, without or with bias")


class Form(Section):
    """What towers of one size differ in between CLIP, FLIP and SigLIP."""

    vision: VisionForm
    text: TextForm


class ImageTower(Section):
    """Where the vision tower and its projection begin, and how fast they learn: anew, from trained weights (SigLIP,
    section 4.5: at a tenth of the rate, without weight decay), or locked (LiT)."""

    weights: str | None = Field(
        description="variant, or .safetensors file with this project's names, whose image tower it begins with; "
        "null: a new one"
    )
    lr_scale: Share = Field(
        description="learning rate over that of the rest; 0: locked, its features of all pictures are computed once"
    )

    @model_validator(mode="after")
    def only_trained_towers_lag(self):
        if self.weights is None and self.lr_scale != 1:
            raise ValueError(
                f"lr_scale = {self.lr_scale} is for a trained tower: let weights name its variant or file, or set "
                "lr_scale to 1.0"
            )
        return self

    @property
    def locked(self) -> bool:
        return self.lr_scale == 0

    @property
    def file(self) -> str | None:
        return self.weights if self.weights and self.weights.endswith(".safetensors") else None

    @property
    def variant(self) -> str | None:
        return None if self.file else self.weights


class Masking(Section):
    image: Share = Field(description="share of patches removed; a class token always stays")
    text: Share = Field(description="share of token slots removed")
    text_policy: Literal["random", "prioritized"] = Field(description="prioritized removes padding first")


class Logits(Section):
    """How cosines become logits: times a scale that is learned."""

    temperature: Positive = Field(description="1 / scale at the start")
    max_scale: float | None = Field(description="the scale is kept between 1 and this; null: free, as in SigLIP", gt=1)


class Contrastive(Section):
    """InfoNCE: the softmax loss of CLIP and FLIP."""

    weight: float = Field(description="weight of the loss", ge=0)


class Sigmoid(Section):
    """The pairwise loss of SigLIP (Zhai et al. 2023, Algorithm 1)."""

    weight: float = Field(description="weight of the loss; 0 builds no bias", ge=0)
    bias: float | Literal["matched"] | None = Field(
        description="learned bias of the logits at the start; matched: log 1 / (batch - 1), the prior; null: no bias"
    )

    def initial_bias(self, batch: int) -> float | None:
        """Before the first step with a global batch of so many pairs; None where there is no such parameter."""
        if not self.weight or self.bias is None:
            return None
        return -math.log(max(batch - 1, 1)) if self.bias == "matched" else self.bias


class Reconstruction(Section):
    """MAE's head (FLIP, Table 1f; MAE, section 3)."""

    weight: float = Field(description="weight of the loss beside the contrastive one; 0 builds no decoder", ge=0)
    layers: Count
    width: Count
    heads: Count
    normalize: bool = Field(description="targets are normalised per patch")


class SimCLR(Section):
    """Two views of a picture find each other among all others (Chen et al. 2020), as SLIP adds it to CLIP."""

    weight: float = Field(description="weight of the loss beside the contrastive one; 0 makes no views", ge=0)
    temperature: Positive = Field(description="cosines are divided by it")
    hidden: Count = Field(description="width of the projection head's two hidden layers")
    width: Count = Field(description="width of the space in which views are compared")
    views: Views
