"""Describe the parameters of the image tokenizer whose codes masked image modelling predicts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from flip.config.sections.types import Batch, Count, Part, Place, Positive, Rate, Section, Width


class Codebook(Section):
    """Describe the image tokenizer: a discrete autoencoder with one code per patch, trained once for all variants of
    a scale."""

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
    samples: Count = Field(description="images that it is trained on, counted with repetition")
    batch: Batch = Field(description="images per step")
    lr: Rate = Field(description="learning rate at the start, then a cosine to 0")

    @model_validator(mode="after")
    def has_a_step(self) -> Self:
        if self.samples < self.batch:
            raise ValueError(
                f"samples = {self.samples} are less than a batch of {self.batch}; use more, or a smaller batch"
            )
        return self
