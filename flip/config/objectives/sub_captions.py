"""Describe the parameters of the contrastive loss over parts of captions."""

from typing import Annotated, ClassVar

from pydantic import Field

from flip.config.objectives.section import Facts, ObjectiveSection
from flip.config.sections.types import Few, Weight


class SubCaptions(ObjectiveSection):
    """Describe InfoNCE between images and parts of their captions, further positives beside the captions themselves
    (CLIPS, Liu et al. 2024)."""

    aligns: ClassVar[bool] = True
    facts: ClassVar[Facts] = {
        "parts of captions": (
            lambda one: f"{one.weight:g} x {one.captions} of {100 * one.share:g}%" if one.weight else "",
            ("weight", "captions", "share"),
        )
    }

    weight: Weight = Field(description="weight of the loss, the mean over an image's parts of its caption")
    captions: Few = Field(description="parts of each caption")
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="share of a caption's words in a part, contiguous, at least one word"
    )
