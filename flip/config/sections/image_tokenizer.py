"""Describe the parameters of the image tokenizer whose codes masked image modelling predicts."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from flip.config.sections.types import Batch, Count, Part, Place, Positive, Rate, Section, Width


class Codebook(Section):
    """Describe the image tokenizer: a discrete autoencoder with one code per patch, trained once for all variants of
    a scale."""

    weights: Place | None = Field(
        description=".safetensors file of DALL-E's encoder, from transformers' FlavaImageCodebook "
        "(facebook/flava-image-codebook), to be used with codes: 8192; null: train a tokenizer"
    )
    codes: Annotated[int, Field(ge=2, le=2**20)] = Field(
        description="entries of the codebook (DALL-E's, which FLAVA and BEiT use, has 8192)"
    )
    code_width: Width = Field(description="width of an entry, which has unit length")
    width: Width = Field(description="channels of the encoder and the decoder")
    blocks: int = Field(
        description="residual 3 x 3 convolutions over the patches, in the encoder and in the decoder", ge=0, le=1000
    )
    commitment: Positive = Field(
        description="weight of the commitment loss, which pulls encoded patches towards their codes"
    )
    decay: Part = Field(description="decay of the moving averages that define the codes")
    samples: Count = Field(description="training samples: images, counted with repetition")
    batch: Batch = Field(description="images per step")
    lr: Rate = Field(description="initial learning rate; decays to 0 along a cosine")

    @model_validator(mode="after")
    def has_a_step(self) -> Self:
        if self.samples < self.batch:
            raise ValueError(
                f"samples = {self.samples} are less than a batch of {self.batch}; use more, or a smaller batch"
            )
        return self
