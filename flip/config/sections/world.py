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
    slow: Share = Field(description="answers only after the download's time-out")
    reset: Share = Field(description="connection reset before the body")
    truncated: Share = Field(description="JPEG cut in the middle")
    html: Share = Field(description="an HTML page instead of an image, with status 200")
    tiny: Share = Field(description="a tracking pixel")
    huge: Share = Field(description="an image of many megapixels")
    disallowed: Share = Field(description="an image in a folder that robots.txt forbids")
    busy: Share = Field(description="429 when it is first asked for, with Retry-After")

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
    validation: Rendered = Field(description="images of fine's classes that sweeps choose by")
    shifted: Rendered = Field(description="images in each of the shifted sets")
    retrieval: Rendered = Field(description="images with five captions each")
    pointing: Rendered = Field(
        description="images of two or three things, of which one is named; composition has the same ones"
    )
    entailment: Rendered = Field(description="images, fine's first, each with a statement about it")


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
    duplicates: Share = Field(description="share of rows whose image is that of an earlier row")
    leaked: Share = Field(description="share of rows that show an image of a test set, pointing aside")
    faults: NetworkErrors
    tests: TestSets
    probe: ProbeSets
