"""Describe the parameters of masked forwards over images and captions together."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from flip.config.objectives.section import IMAGE, TEXT, Facts, ObjectiveSection
from flip.config.sections.masking import must_keep
from flip.config.sections.model import Decoder, Model
from flip.config.sections.types import Share, Weight


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

    pixels: Weight = Field(
        description="weight of the squared error of removed patches (MAE-CLIP's w_i); 0: not predicted"
    )
    words: Weight = Field(description="weight of the cross-entropy of removed words (MAE-CLIP's w_t); 0: not predicted")
    mask_image: Share = Field(description="share of patches removed in this pass; a class token always stays")
    mask_text: Share = Field(description="share of token positions removed in this pass, including padding")
    encoder: Literal["separate", "shared"] = Field(
        description="separate: each tower encodes its own modality (MAE-CLIP); shared: the vision tower encodes both "
        "(M3AE)"
    )
    normalize: bool = Field(description="normalise target pixels per patch")

    @property
    def reads_patches(self) -> bool:
        return True

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
        if params.masking.image and not (params.aligned or "reconstruction" in params.objectives):
            raise ValueError("masking.image has no forward to act on: set it to 0, and generative.mask_image instead")

    @model_validator(mode="after")
    def is_possible(self) -> Self:
        for weight, share in (("pixels", "mask_image"), ("words", "mask_text")):
            if getattr(self, weight) and not getattr(self, share):
                raise ValueError(f"{weight} needs something removed: set {share} above 0, or {weight} to 0")
        return self
