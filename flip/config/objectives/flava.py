"""Describe the parameters of FLAVA's masked losses."""

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from flip.config.objectives.section import IMAGE, TEXT, Facts, ObjectiveSection
from flip.config.sections.data import Mix
from flip.config.sections.model import Tower
from flip.config.sections.types import Share, Weight


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

    mim: Weight = Field(description="weight of masked image modeling: codes of masked patches, from the image")
    mlm: Weight = Field(description="weight of masked language modeling: masked words, from the caption")
    mmm_image: Weight = Field(
        description="weight of multimodal masking: codes of masked patches, from image and caption"
    )
    mmm_text: Weight = Field(description="weight of multimodal masking: masked words, from image and caption")
    itm: Weight = Field(description="weight of image-text matching: does the caption belong to the image")
    mask_image: Share = Field(description="largest share of patches to mask, in blocks (BEiT: 75 of 196)")
    smallest_block: Share = Field(description="share of patches in the smallest block drawn (BEiT: 16 of 196)")
    mask_text: Share = Field(description="share of words to mask, independently")
    random_words: Share = Field(
        description="share of masked words replaced by a random word instead of the mask token (BERT: 0.1)"
    )
    kept_words: Share = Field(description="share of masked words left unchanged, but still predicted (BERT: 0.1)")
    mismatched: Share = Field(description="share of pairs with a wrong caption for itm")
    multimodal: Tower = Field(description="the encoder over both sides' states")
    mix: Mix

    @property
    def reads_patches(self) -> bool:
        return True

    @property
    def towers(self) -> frozenset[str]:
        return frozenset(name for name, one in ((IMAGE, self.hides_patches), (TEXT, self.hides_words)) if one)

    @property
    def relates(self) -> bool:
        return self.is_multimodal

    @property
    def sample_types(self) -> Mix | None:
        return self.mix if self.mix.pairs < 1 else None

    @property
    def is_multimodal(self) -> bool:
        return bool(self.mmm_image or self.mmm_text or self.itm)

    @property
    def is_complete(self) -> bool:
        """Return whether all losses have a weight."""
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
        """Return the largest number of masked patches of an image."""
        return int(self.mask_image * patches + 1e-6)

    def check(self, params: Any) -> None:
        self._check_pairs(params)
        if self.hides_patches and params.image_tower.locked:
            raise ValueError("flava.mim, .mmm_image, .mmm_text and .itm mask patches of a locked tower: set them to 0")
        if self.hides_patches and not self.hidden_patches(params.model.patches):
            raise ValueError(
                f"flava.mask_image = {self.mask_image:g} masks none of the {params.model.patches} patches; allowed: "
                f"{1 / params.model.patches:.4f} to 1"
            )
        if self.hides_patches and self.smallest_block > self.mask_image:
            raise ValueError(
                f"flava.smallest_block = {self.smallest_block:g} is larger than all that flava.mask_image = "
                f"{self.mask_image:g} masks; allowed: 0 to {self.mask_image:g}"
            )
        if self.hides_words and not self.mask_text:
            raise ValueError("flava.mask_text = 0 masks no word; allowed: above 0, up to 1 (BERT: 0.15)")
        if self.random_words + self.kept_words > 1:
            raise ValueError(
                f"flava.random_words = {self.random_words:g} and flava.kept_words = {self.kept_words:g} are shares of "
                "the masked words; allowed: 1 together"
            )
        if self.hides_words and params.captions.fill:
            raise ValueError(
                "captions.fill puts end tokens where no words are; flava's losses would mask them: use false"
            )
        if self.itm and not 0 < self.mismatched < 1:
            raise ValueError(f"flava.mismatched = {self.mismatched:g} leaves itm one answer; allowed: between 0 and 1")

    @model_validator(mode="after")
    def mix_is_read(self) -> Self:
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
