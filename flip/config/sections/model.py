"""Define parameters of the model: size, form, initial weights of the towers, masking."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.masking import Masking
from flip.config.sections.types import Few, Pixels, Place, Section, Share, Temperature, Tiny, Width

if TYPE_CHECKING:
    from flip.config.sections.data import Captions

MANY_PATCHES = 2**16  # of an image: a square of attention over more does not fit anywhere


class Tower(Section):
    layers: Annotated[int, Field(gt=0, le=1000)]
    width: Width
    heads: Few

    @model_validator(mode="after")
    def heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Model(Section):
    """Size of the two towers (FLIP, Table 9). The MLP is four times as wide as its tower."""

    image: Pixels = Field(description="side of the input image, pixels")
    patch: Pixels = Field(description="side of a patch, pixels")
    first_image: Pixels | None = Field(
        None,
        description="image side of the first stage, pixels: fixed positions are interpolated from its grid; derived "
        "from `start`; null: same as image",
    )
    full_image: Pixels | None = Field(
        None,
        description="full image side for an additional evaluation if `resolution` is below 1, pixels; derived from "
        "it; null: none",
    )
    embedding: Width = Field(description="width of the common space, where form.vision projects into it")
    vision: Tower
    text: Tower
    tokens: int = Field(description="caption length, tokens", gt=0, le=8192)

    @model_validator(mode="after")
    def patches_tile(self) -> Self:
        if self.image % self.patch:
            raise ValueError(f"image {self.image} is not a multiple of patch {self.patch}")
        for name in ("first_image", "full_image"):
            if (getattr(self, name) or self.image) % self.patch:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of patch {self.patch}")
        if self.patches > MANY_PATCHES:
            raise ValueError(
                f"image {self.image} has {self.patches:,} patches of side {self.patch}; allowed: up to {MANY_PATCHES:,}"
            )
        if self.vision.width % 4:
            raise ValueError(f"vision.width {self.vision.width} is not a multiple of 4, as 2-D positions need")
        return self

    @property
    def grid(self) -> int:
        """Return the number of patches along a side."""
        return self.image // self.patch

    @property
    def first_grid(self) -> int:
        """Return that number in the first stage."""
        return (self.first_image or self.image) // self.patch

    @property
    def patches(self) -> int:
        return self.grid**2


class Blocks(Section):
    """Hold what transformers of one size still differ in."""

    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = Field(
        description="GELU: exact, tanh approximation (SigLIP), or x sigmoid(1.702 x) (OpenAI's CLIP weights)"
    )
    norm_epsilon: Tiny = Field(description="added to the variance in every LayerNorm")


Deviation = Annotated[float, Field(ge=1e-3, le=10)]


class VisionForm(Blocks):
    pooling: Literal["mean", "class", "map", "max"] = Field(
        description="mean of the patches, a class token (CLIP), multi-head attention pooling (SigLIP), or the largest "
        "value of each channel (CLIPpy)"
    )
    positions: Literal["sincos", "learned"]
    pre_norm: bool = Field(description="add a LayerNorm before the blocks (CLIP)")
    patch_bias: bool = Field(description="bias of the patch projection")
    merged: Share = Field(
        0.0,
        description="share of an image's tokens that the blocks merge with similar ones before pooling (ToMe), the "
        "same number in each block",
    )
    merges_at_evaluation: bool = Field(True, description="also merge tokens at evaluation")
    projection: Literal["none", "linear", "affine"] = Field(
        description="linear projection into the common space, without or with bias; none: that space is as wide as "
        "the tower"
    )
    mean: tuple[Share, Share, Share] = Field(description="mean of red, green and blue (0 to 1), subtracted from pixels")
    std: tuple[Deviation, Deviation, Deviation] = Field(
        description="standard deviation of red, green and blue (0 to 1), by which pixels are divided"
    )


class TextForm(Blocks):
    pooling: Literal["mean", "last", "first"] = Field(
        description="mean of the caption's tokens, or the state of the last token, the end token or the start token"
    )
    embedding_norm: bool = Field(description="LayerNorm right after the embeddings (BERT, FLAVA)")
    bottleneck: Annotated[float, Field(gt=0, le=1)] | None = Field(
        description="embedding bottleneck: width of token embeddings relative to the tower's, to which a matrix "
        "projects them (mSigLIP: 96 / 768); null: no bottleneck"
    )
    causal: bool = Field(description="causal attention: a token sees only earlier tokens")
    projection: Literal["linear", "affine"] = Field(description="into the common space, without or with bias")

    def entry(self, width: int) -> int | None:
        """Return the width of the embedding bottleneck of a tower of this width, if it has one."""
        return None if self.bottleneck is None else max(round(self.bottleneck * width), 1)

    def check(self, captions: "Captions", masking: Masking) -> None:
        """Raise ValueError where the feature is the end or the start token's, and captions do not keep one."""
        token = {"last": "end", "first": "start"}.get(self.pooling)
        if token and not getattr(captions, token):
            raise ValueError(
                f"form.text.pooling = '{self.pooling}' reads the {token} token: set captions.{token} to true, or use "
                "'mean'"
            )
        if token and masking.text:
            raise ValueError(
                f"masking.text would remove the {token} token that form.text.pooling = '{self.pooling}' reads: use "
                "'mean', or set masking.text to 0"
            )
        if self.pooling == "first" and self.causal:
            raise ValueError("form.text.pooling = 'first' with form.text.causal sees the start token alone: use 'last'")


class Form(Section):
    """Hold what towers of one size differ in between CLIP, FLIP, SigLIP and FLAVA."""

    vision: VisionForm
    text: TextForm
    initialization: Literal["xavier", "clip", "siglip", "flava"] = Field(
        description="initial weights: Xavier uniform (MAE, FLIP, M3AE), or as in CLIP's, SigLIP's or FLAVA's code"
    )


class TrainedTower(Section):
    """Describe the initial weights of a tower and its projection: random, or trained ones."""

    weights: Place | None = Field(
        description="variant, or .safetensors file with this project's names, to load the tower from, with its "
        "projection into the common space if there is one; null: new weights"
    )

    @property
    def file(self) -> str | None:
        return self.weights if self.weights and self.weights.endswith(".safetensors") else None

    @property
    def variant(self) -> str | None:
        return None if self.file else self.weights

    @property
    def has_lower_lr(self) -> bool:
        """Return whether it learns more slowly than the rest, or not at all."""
        return False

    def must_be_there(self, params: Any, side: str) -> None:
        """Raise ValueError where there is no tower on this side, or `start` says where it begins."""
        if self.weights and params.start:
            raise ValueError(
                f"start = '{params.start}' and {side}_tower.weights = '{self.weights}' both say where the {side} tower "
                "begins: leave one out"
            )
        if self.weights and not getattr(params, f"has_{side}_tower"):
            raise ValueError(f"{side}_tower.weights = '{self.weights}': no loss reads that side; leave it out")


class ImageTower(TrainedTower):
    """Describe also how fast the image tower learns: as all the rest, slowly (SigLIP, section 4.5: at a tenth of the
    rate, and without weight decay), or not at all (LiT)."""

    lr_scale: Share = Field(
        description="learning rate relative to the rest; below 1: without weight decay; 0: locked, with features of "
        "all images computed once"
    )

    @model_validator(mode="after")
    def only_trained_towers_lag(self) -> Self:
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
    def has_lower_lr(self) -> bool:
        return self.lr_scale < 1

    def check(self, params: Any) -> None:
        """Raise ValueError for a locked tower that would not see each image once, unmasked, or that has no trained
        weights."""
        self.must_be_there(params, "image")
        augmentation = params.augmentation
        plain = {
            "masking.image": (params.masking.image, 0.0),
            "masking.views": (params.masking.views, 1),
            "noise.images": (params.noise.images, 0.0),
            "reconstruction.weight": (params.reconstruction.weight, 0.0),
            "simclr.weight": (params.simclr.weight, 0.0),
            "generative.pixels": (params.generative.pixels, 0.0),
            "generative.words": (params.generative.words, 0.0),
            "augmentation.crop_area": ([*augmentation.crop_area], [1.0, 1.0]),
            "augmentation.flip": (augmentation.flip, False),
        }
        for key, (value, allowed) in plain.items() if self.locked else ():
            if value != allowed:
                raise ValueError(
                    f"{key} = {value}: the features of a locked image tower (image_tower.lr_scale = 0) are those of "
                    f"whole images, computed once; allowed: {allowed}, or a lr_scale above 0"
                )


class TextTower(TrainedTower):
    """Describe those of the text tower, which learns as all the rest (FLAVA starts from one trained by MLM on
    texts)."""

    def check(self, params: Any) -> None:
        self.must_be_there(params, "text")


class Logits(Section):
    """Describe how cosines become logits: times a learned scale."""

    temperature: Temperature = Field(description="initial temperature, 1 / scale")
    max_scale: float | None = Field(
        description="upper limit of the scale, whose lower limit is 1; null: no limits (SigLIP)", gt=1, le=1e4
    )

    @model_validator(mode="after")
    def begins_in_range(self) -> Self:
        if self.max_scale is not None and not 1 <= 1 / self.temperature <= self.max_scale:
            raise ValueError(
                f"temperature = {self.temperature:g} begins at a scale of {1 / self.temperature:g}; allowed: "
                f"{1 / self.max_scale:g} to 1, or null for max_scale"
            )
        return self


class Decoder(Tower):
    """Describe a tower over patches, whose positions have two dimensions."""

    @model_validator(mode="after")
    def has_positions(self) -> Self:
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4, as 2-D positions need")
        return self
