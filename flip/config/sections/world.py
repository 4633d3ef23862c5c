"""Define parameters of the synthetic data set."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from flip.config.sections.types import (
    Natural,
    Section,
    Seed,
    Share,
)


class NetworkErrors(Section):
    """Hold the shares of the synthetic data set's URLs that fail with simulated network errors."""

    not_found: Share
    forbidden: Share
    slow: Share = Field(description="respond only after the download's time-out")
    reset: Share = Field(description="connection reset before the body")
    truncated: Share = Field(description="JPEG cut in the middle")
    html: Share = Field(description="an HTML page instead of an image, with status 200")
    tiny: Share = Field(description="a tracking pixel")
    huge: Share = Field(description="an image of many megapixels")
    disallowed: Share = Field(description="an image in a folder that robots.txt disallows")
    busy: Share = Field(description="429 with Retry-After on the first request")

    @model_validator(mode="after")
    def at_most_all(self) -> Self:
        total = sum(self.model_dump().values())
        if total > 1:
            raise ValueError(f"the shares add up to {total:g}; at most 1 is possible")
        return self


Rendered = Annotated[int, Field(gt=0, le=10**7)]  # images of a test set


class TestSets(Section):
    """Hold the number of images per synthetic test set."""

    coarse: Rendered
    fine: Rendered
    validation: Rendered = Field(description="validation images for sweeps, with fine's classes")
    shifted: Rendered = Field(description="images in each of the shifted sets")
    retrieval: Rendered = Field(description="images with five captions each")
    pointing: Rendered = Field(
        description="images with two or three objects, of which the caption names one; also used for composition"
    )
    entailment: Rendered = Field(description="images with a statement each, starting with those of fine")


class ProbeSets(Section):
    """Hold the number of synthetic images that linear probes of a test set are fitted on."""

    coarse: Rendered
    fine: Rendered
    validation: Rendered
    entailment: Rendered


class World(Section):
    """Describe the synthetic data set of captioned images."""

    seed: Seed
    images: Natural = Field(description="rows of the URL table", le=10**9)
    wrong_captions: Share = Field(description="share of captions that describe another image")
    duplicates: Share = Field(description="share of rows that repeat the image of an earlier row")
    leaked: Share = Field(description="share of rows with an image of a test set, except pointing")
    faults: NetworkErrors
    tests: TestSets
    probe: ProbeSets
