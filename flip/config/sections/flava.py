"""Parameters of FLAVA's masked losses and of the image tokenizer whose codes they predict."""

from typing import Annotated

from pydantic import Field, model_validator

from flip.config.sections.model import Tower
from flip.config.sections.types import Batch, Count, Part, Place, Positive, Rate, Section, Share, Weight, Width


class Codebook(Section):
    """The image tokenizer: a discrete autoencoder with one code per patch, trained once for all variants of a scale."""

    weights: Place | None = Field(
        description="DALL-E's encoder in its place: a .safetensors file of transformers' FlavaImageCodebook "
        "(facebook/flava-image-codebook), with codes: 8192; null: one is trained"
    )
    codes: Annotated[int, Field(ge=2, le=2**20)] = Field(
        description="entries of the codebook (DALL-E's, which FLAVA and BEiT use, has 8192)"
    )
    code_width: Width = Field(description="numbers of an entry, which has unit length")
    width: Width = Field(description="channels of its encoder and its decoder")
    blocks: int = Field(description="residual 3 x 3 convolutions over the patches, on either side", ge=0, le=1000)
    commitment: Positive = Field(description="weight of the pull of encoded patches towards their codes")
    decay: Part = Field(description="share that a step leaves of the moving averages which the codes are")
    samples: Count = Field(description="pictures that it is trained on, counted with repetition")
    batch: Batch = Field(description="pictures per step")
    lr: Rate = Field(description="learning rate at the start, then a cosine to 0")

    @model_validator(mode="after")
    def has_a_step(self):
        if self.samples < self.batch:
            raise ValueError(
                f"samples = {self.samples} are less than a batch of {self.batch}; use more, or a smaller batch"
            )
        return self


class Mix(Section):
    """What the samples are used as: shares of the data, which do not overlap, and of the steps, which take turns
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
    def shares(self) -> dict[str, float]:
        """Of the kinds that there are."""
        return {name: share for name, share in self.model_dump().items() if share}


class Flava(Section):
    """FLAVA's losses beside the contrastive one (Singh et al. 2022, section 3.1): weights, and what is hidden.

    Masked image modelling (mim) and masked language modelling (mlm) read one side's encoder; masked multimodal
    modelling (mmm) and image-text matching (itm) read an encoder over the states of both. A weight of 0 builds nothing.
    """

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

    def hidden_patches(self, patches: int) -> int:
        """The most of a picture's patches that are hidden."""
        return int(self.mask_image * patches + 1e-6)

    def check(self, params) -> None:
        """Raises ValueError where the rest of a variant's parameters leaves a loss nothing to work on."""
        self._check_mix(params)
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

    def _check_mix(self, params) -> None:
        for kind, name in (("images", "mim"), ("texts", "mlm")):
            if (share := getattr(self.mix, kind)) and not getattr(self, name):
                raise ValueError(
                    f"flava.mix.{kind} = {share:g} has no loss to read it: give flava.{name} a weight, or set it to 0"
                )
        others = params.aligned or self.is_multimodal or params.reconstruction.weight or params.simclr.weight
        if not self.mix.pairs and (others or params.generative.wanted):
            raise ValueError(
                "flava.mix.pairs = 0 leaves losses besides flava.mim and flava.mlm nothing to read: give it a share, "
                "or set them to 0"
            )
