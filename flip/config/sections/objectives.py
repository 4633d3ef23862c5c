"""Describe the parameters of the objectives: weights of their losses, and what is built for them.

Each section of `Objectives` belongs to the file of its name in flip.losses, which is imported where one of its weights
is above 0. What other code asks of an objective without importing torch, its section answers.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from flip.config.sections.data import Views
from flip.config.sections.model import Model, Tower, must_keep
from flip.config.sections.types import Section, Share, Temperature, Weight, Width

IMAGE, TEXT = "image", "text"  # towers
Facts = dict[str, tuple[Callable[[Any], str], tuple[str, ...]]]


class ObjectiveSection(Section):
    """Answer for an objective what others ask of it; the defaults are those of one loss of pairs of features."""

    weights: ClassVar[tuple[str, ...]] = ("weight",)  # keys, of which one above 0 builds it
    aligns: ClassVar[bool] = False  # whether it ties images to captions in a common space
    # What distinguishes a row of a table: words -> how to say it, and the keys that it stands for.
    facts: ClassVar[Facts] = {}

    @property
    def wanted(self) -> bool:
        """Tell whether a weight is above 0."""
        return any(getattr(self, name) for name in self.weights)

    @property
    def towers(self) -> frozenset[str]:
        """Name the towers that it trains."""
        return frozenset({IMAGE, TEXT})

    @property
    def relates(self) -> bool:
        """Tell whether it trains what says how an image and a caption go together."""
        return self.aligns

    def check(self, params: Any) -> None:
        """Raise ValueError where the rest of a variant's parameters leaves it nothing to work on."""


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


class Contrastive(ObjectiveSection):
    """Describe InfoNCE: the softmax loss of CLIP and FLIP."""

    aligns: ClassVar[bool] = True
    weight: Weight = Field(description="weight of the loss")


class Sigmoid(ObjectiveSection):
    """Describe the pairwise loss of SigLIP (Zhai et al. 2023, Algorithm 1)."""

    aligns: ClassVar[bool] = True
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
    """Describe a tower over patches, whose positions have two dimensions."""

    @model_validator(mode="after")
    def has_positions(self):
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4, as 2-D positions need")
        return self


class Generative(Decoder, ObjectiveSection):
    """Describe a masked forward over images and captions together, and its decoder (M3AE, Geng et al. 2022;
    MAE-CLIP)."""

    weights: ClassVar[tuple[str, ...]] = ("pixels", "words")
    facts: ClassVar[Facts] = {
        "masked pass": (
            lambda one: f"{one.pixels:g} pixels + {one.words:g} words, {one.encoder} encoder" if one.wanted else "",
            ("pixels", "words", "encoder"),
        ),
        "words hidden": (lambda one: f"{100 * one.mask_text:g}%" if one.wanted else "", ("mask_text",)),
    }

    pixels: Weight = Field(description="weight of the error of removed patches, MAE-CLIP's w_i; 0: not predicted")
    words: Weight = Field(description="weight of the entropy of removed words, MAE-CLIP's w_t; 0: not predicted")
    mask_image: Share = Field(description="share of patches removed in this pass; a class token always stays")
    mask_text: Share = Field(description="share of token slots removed in this pass, padding like words")
    encoder: Literal["separate", "shared"] = Field(
        description="each tower encodes what is left of its own side (MAE-CLIP), or the vision tower of both (M3AE)"
    )
    normalize: bool = Field(description="pixels are predicted normalised per patch")

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE} if self.encoder == "shared" else {IMAGE, TEXT})

    def kept(self, model: Model) -> tuple[int, int]:
        """Count the patches and token positions that are left: int(positions x (1 - share)), as in MAE and M3AE."""
        return int(model.patches * (1 - self.mask_image)), int(model.tokens * (1 - self.mask_text))

    def check(self, params: Any) -> None:
        patches, tokens = self.kept(params.model)
        must_keep("generative.mask_image", patches, params.model.patches)
        must_keep("generative.mask_text", tokens, params.model.tokens)
        if (self.encoder == "shared") == params.aligned:
            raise ValueError(
                f"generative.encoder = '{self.encoder}' does not go with these losses: 'separate' reads the text "
                "tower, which contrastive.weight or sigmoid.weight above 0 builds; 'shared' has none, so set both to 0"
            )
        if params.masking.image and not (params.aligned or params.reconstruction.weight):
            raise ValueError("masking.image has no forward to act on: set it to 0, and generative.mask_image instead")

    @model_validator(mode="after")
    def is_possible(self):
        for weight, share in (("pixels", "mask_image"), ("words", "mask_text")):
            if getattr(self, weight) and not getattr(self, share):
                raise ValueError(f"{weight} needs something removed: set {share} above 0, or {weight} to 0")
        return self


class Reconstruction(Decoder, ObjectiveSection):
    """Describe MAE's decoder (FLIP, Table 1f; MAE, section 3)."""

    facts: ClassVar[Facts] = {
        "pixels": (lambda one: "raw" if one.weight and not one.normalize else "", ("normalize",)),
        "reconstruction weight": (lambda one: f"{one.weight:g}", ("weight",)),
    }

    weight: Weight = Field(description="weight of the loss beside the contrastive one; 0 builds no decoder")
    normalize: bool = Field(description="targets are normalised per patch")

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE})

    def check(self, params: Any) -> None:
        if not params.masking.image:
            raise ValueError(
                "reconstruction.weight needs removed patches: set masking.image above 0, or the weight to 0"
            )


class SimCLR(ObjectiveSection):
    """Describe how two views of an image find each other among all others (Chen et al. 2020), as SLIP adds it to
    CLIP."""

    facts: ClassVar[Facts] = {"SimCLR weight": (lambda one: f"{one.weight:g}", ("weight",))}

    weight: Weight = Field(description="weight of the loss beside the contrastive one; 0 makes no views")
    temperature: Temperature = Field(description="cosines are divided by it")
    hidden: Width = Field(description="width of the projection head's two hidden layers")
    width: Width = Field(description="width of the space in which views are compared")
    views: Views

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE})


class Mix(Section):
    """Say what the samples are used as: shares of the data, which do not overlap, and of the steps, which take turns
    (FLAVA, Table A.2: 0.70 pairs, 0.15 pictures, 0.15 texts, of a data set each)."""

    pairs: Share = Field(description="share of the samples whose picture and caption all losses read")
    images: Share = Field(description="share of the samples whose picture alone is read, by mim")
    texts: Share = Field(description="share of the samples whose caption alone is read, by mlm")

    @model_validator(mode="after")
    def is_all(self):
        if abs((total := sum(self.model_dump().values())) - 1) > 1e-9:
            raise ValueError(f"pairs, images and texts add up to {total:g}; allowed: 1")
        return self

    @property
    def text(self) -> str:
        """Say it in words; nothing where all samples are pairs."""
        shares = self.shares.items()
        return " + ".join(f"{100 * share:g}% {name}" for name, share in shares) if self.pairs < 1 else ""

    @property
    def shares(self) -> dict[str, float]:
        """Map the batch types that there are to their shares."""
        return {name: share for name, share in self.model_dump().items() if share}


class Flava(ObjectiveSection):
    """Describe FLAVA's losses beside the contrastive one (Singh et al. 2022, section 3.1): weights, and what is masked.

    Masked image modelling (mim) and masked language modelling (mlm) read one side's encoder; masked multimodal
    modelling (mmm) and image-text matching (itm) read an encoder over the states of both. A weight of 0 builds nothing.
    """

    weights: ClassVar[tuple[str, ...]] = ("mmm_image", "mmm_text", "itm", "mim", "mlm")
    facts: ClassVar[Facts] = {
        "FLAVA losses": (lambda one: " + ".join(name for name in one.weights if getattr(one, name)), weights),
        "samples as": (lambda one: one.mix.text, ("mix.pairs", "mix.images", "mix.texts")),
    }

    mim: Weight = Field(description="weight: codes of hidden patches, from the picture")
    mlm: Weight = Field(description="weight: hidden words, from the caption")
    mmm_image: Weight = Field(description="weight: codes of hidden patches, from picture and caption")
    mmm_text: Weight = Field(description="weight: hidden words, from picture and caption")
    itm: Weight = Field(description="weight: whether the caption is the picture's own")
    mask_image: Share = Field(description="share of patches to hide, at most, in blocks (BEiT: 75 of 196)")
    smallest_block: Share = Field(description="share of patches in the smallest block drawn (BEiT: 16 of 196)")
    mask_text: Share = Field(description="share of words to hide, each by itself")
    mismatched: Share = Field(description="share of pairs that get another caption for itm, where it has a weight")
    multimodal: Tower = Field(description="the encoder over both sides' states")
    mix: Mix

    @property
    def towers(self) -> frozenset[str]:
        return frozenset(name for name, one in ((IMAGE, self.hides_patches), (TEXT, self.hides_words)) if one)

    @property
    def relates(self) -> bool:
        return self.is_multimodal

    @property
    def is_multimodal(self) -> bool:
        return bool(self.mmm_image or self.mmm_text or self.itm)

    @property
    def is_complete(self) -> bool:
        """Whether all losses have a weight."""
        return bool(self.mim and self.mlm and self.mmm_image and self.mmm_text and self.itm)

    @property
    def hides_patches(self) -> bool:
        return bool(self.mim or self.is_multimodal)

    @property
    def hides_words(self) -> bool:
        return bool(self.mlm or self.is_multimodal)

    @property
    def reads_codes(self) -> bool:
        return bool(self.mim or self.mmm_image)

    def share(self, side: str) -> float:
        """Return the share of "patches" or "words" that is masked, about."""
        return self.mask_image if side == "patches" else self.mask_text

    def hidden_patches(self, patches: int) -> int:
        """The most of a picture's patches that are hidden."""
        return int(self.mask_image * patches + 1e-6)

    def check(self, params: Any) -> None:
        self._check_pairs(params)
        if self.hides_patches and params.image_tower.locked:
            raise ValueError(
                "flava.mim, .mmm_image, .mmm_text and .itm hide patches from a tower that is locked: set 0"
            )
        if self.hides_patches and not self.hidden_patches(params.model.patches):
            raise ValueError(
                f"flava.mask_image = {self.mask_image:g} hides none of the {params.model.patches} patches; allowed: "
                f"{1 / params.model.patches:.4f} to 1"
            )
        if self.hides_patches and self.smallest_block > self.mask_image:
            raise ValueError(
                f"flava.smallest_block = {self.smallest_block:g} is larger than all that flava.mask_image = "
                f"{self.mask_image:g} hides; allowed: 0 to {self.mask_image:g}"
            )
        if self.hides_words and not self.mask_text:
            raise ValueError("flava.mask_text = 0 hides no word; allowed: above 0, up to 1 (BERT: 0.15)")
        if self.hides_words and params.captions.fill:
            raise ValueError(
                "captions.fill puts end tokens where no words are; flava's losses would hide them: use false"
            )
        if self.itm and not 0 < self.mismatched < 1:
            raise ValueError(f"flava.mismatched = {self.mismatched:g} leaves itm one answer; allowed: between 0 and 1")

    @model_validator(mode="after")
    def mix_is_read(self):
        for kind, name in (("images", "mim"), ("texts", "mlm")):
            if (share := getattr(self.mix, kind)) and not getattr(self, name):
                raise ValueError(
                    f"flava.mix.{kind} = {share:g} has no loss to read it: give flava.{name} a weight, or set it to 0"
                )
        return self

    def _check_pairs(self, params: Any) -> None:
        others = params.objectives.keys() - {"flava"}
        if not self.mix.pairs and (others or self.is_multimodal):
            raise ValueError(
                "flava.mix.pairs = 0 leaves losses besides flava.mim and flava.mlm nothing to read: give it a share, "
                "or set them to 0"
            )


class Objectives(Section):
    """List the objectives that there are, in the order in which their losses are computed and added up."""

    contrastive: Contrastive
    sigmoid: Sigmoid
    reconstruction: Reconstruction
    generative: Generative
    flava: Flava
    simclr: SimCLR

    @property
    def objectives(self) -> dict[str, ObjectiveSection]:
        """Map the names of the sections with a weight above 0 to them."""
        sections = {name: getattr(self, name) for name in Objectives.model_fields}
        return {name: section for name, section in sections.items() if section.wanted}

    @property
    def aligned(self) -> bool:
        """Tell whether a loss ties images to captions in a common space; without one there are no projections."""
        return any(one.aligns for one in self.objectives.values())

    @property
    def has_image_tower(self) -> bool:
        """Tell whether a loss reads images."""
        return any(IMAGE in one.towers for one in self.objectives.values())

    @property
    def has_text_tower(self) -> bool:
        """Tell whether a loss reads captions through a tower of their own."""
        return any(TEXT in one.towers for one in self.objectives.values())

    @property
    def relates(self) -> bool:
        """Tell whether it can say how an image and a caption go together: by a common space, or by an encoder of
        both."""
        return any(one.relates for one in self.objectives.values())

    @property
    def mix(self) -> Mix | None:
        """Return what the samples are used as where that is not pairs alone."""
        return self.flava.mix if self.flava.wanted and self.flava.mix.pairs < 1 else None
