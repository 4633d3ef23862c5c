"""Define parameters of the download."""

from typing import Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.types import (
    Distinct,
    Few,
    Minutes,
    Natural,
    Pixels,
    Positive,
    Section,
    Shard,
    Share,
    Text,
    numbered,
)

GROUPS = 256  # of parts, at most: buckets read a file of each, and a group's hashes are in memory at once


class Download(Section):
    """Hold img2dataset's options."""

    schemes: Distinct[Literal["http", "https", "ftp", "file", "data"]] = Field(
        description="schemes of the URLs that are fetched; rows with others are counted as refused", min_length=1
    )
    parts: Natural = Field(description="parts of the URL table, one job each", le=10**5)
    at_once: Few = Field(
        description="parts that Snakemake downloads at the same time, on all machines; they share per_host and "
        "per_host_second"
    )
    image_size: Pixels = Field(description="shorter side of the stored images, pixels; smaller ones stay as they are")
    processes: Few
    threads: Few
    timeout: Natural = Field(description="seconds", le=3600)
    deadline: Natural = Field(
        description="seconds that an image may take in all: its turn, redirects, retries and waits between them",
        le=86_400,
    )
    retries: int = Field(description="further attempts at what fails for a reason that passes", ge=0, le=100)
    largest_body: Natural = Field(description="bytes; longer files are refused", le=2**31)
    private_addresses: bool = Field(
        description="whether URLs may lead to addresses that are not public: of this machine, or of its network"
    )
    contact: Text | None = Field(
        description="whom a host's owner may write to, in the User-Agent: a page or an address"
    )
    per_host: Few = Field(description="connections to one host at once, of all parts; at least one for each")
    per_host_second: Positive | None = Field(description="requests a second to one host, of all parts; null: no limit")
    least_share: Share = Field(
        description="share of the images that a part asks for that have to arrive; below it the stage stops, and asks "
        "again when it is run again"
    )
    stall_minutes: Minutes = Field(
        description="a shard that has not grown for so long, as its process hangs, is begun again"
    )
    min_image_size: int = Field(description="smaller images (shorter side, pixels) are refused", ge=0, le=65_536)
    max_aspect_ratio: float = Field(ge=1, le=1000)
    quality: int = Field(description="JPEG quality of the stored images", ge=1, le=100)
    samples_per_shard: Shard

    @model_validator(mode="after")
    def leaves_each_part_a_connection(self) -> Self:
        if self.sharing > self.per_host:
            raise ValueError(
                f"per_host = {self.per_host}: at_once = {self.at_once} parts share it, and each needs a connection; "
                f"lower at_once to {self.per_host} at most"
            )
        return self

    @property
    def sharing(self) -> int:
        """Return how many parts share what a host is asked at most."""
        return min(self.at_once, self.parts)

    @property
    def part_names(self) -> list[str]:
        """Return the names of the parts, which sort as they are numbered."""
        return numbered(self.parts, 4)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Deal the parts to groups of neighbours, by the groups' names."""
        size = -(-self.parts // GROUPS)
        names = self.part_names
        every = [names[first : first + size] for first in range(0, self.parts, size)]
        return dict(zip(numbered(len(every)), every, strict=True))
