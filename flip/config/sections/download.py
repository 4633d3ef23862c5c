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
        description="allowed URL schemes; rows with others are counted as refused", min_length=1
    )
    parts: Natural = Field(description="number of parts of the URL table; each is one job", le=10**5)
    at_once: Few = Field(
        description="parts that are downloaded at the same time, on all machines; they share the limits per host"
    )
    image_size: Pixels = Field(description="shorter side of the stored images, pixels; smaller ones stay as they are")
    processes: Few
    threads: Few
    timeout: Natural = Field(description="seconds", le=3600)
    deadline: Natural = Field(
        description="time limit of an image in seconds, including queueing, redirects, retries and waits",
        le=86_400,
    )
    retries: int = Field(description="retries after temporary failures", ge=0, le=100)
    largest_body: Natural = Field(description="largest file size, bytes; larger files are refused", le=2**31)
    private_addresses: bool = Field(description="allow URLs that lead to this machine or its network")
    contact: Text | None = Field(
        description="contact address in the User-Agent, for owners of hosts: a web page or an e-mail address"
    )
    per_host: Few = Field(description="simultaneous connections of all parts to one host; at least one for each")
    per_host_second: Positive | None = Field(description="requests per second of all parts to one host; null: no limit")
    least_share: Share = Field(
        description="smallest share of a part's images that must arrive; below it the stage stops, and retries when "
        "it is run again"
    )
    stall_minutes: Minutes = Field(description="restart a shard that has not grown for this long, minutes")
    min_image_size: int = Field(
        description="smallest image size (shorter side), pixels; smaller images are refused", ge=0, le=65_536
    )
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
