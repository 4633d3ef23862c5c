"""Define parameters of where pairs come from: tables of URLs or files, tars, and the filters of their rows."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from flip.config.sections.types import (
    Count,
    Distinct,
    Name,
    Place,
    Section,
    Text,
    once_each,
)
from flip.formats.remote import fault_of, is_remote


class Similarity(Section):
    column: Text = Field(description="column with the image-text similarity (LAION: similarity)")
    at_least: float = Field(description="keep rows with at least this score", ge=-1000, le=1000)


class Choice(Section):
    column: Text = Field(description="column to look at (LAION: LANGUAGE, NSFW)")
    keep: Distinct[Text] = Field(description="values that are kept", min_length=1)


class Size(Section):
    width_column: Text = Field(description="column with the image's width, pixels")
    height_column: Text = Field(description="column with the image's height, pixels")
    min_side: int = Field(
        0, description="keep images whose shorter side has at least this many pixels", ge=0, le=65_536
    )
    max_aspect_ratio: float | None = Field(None, description="keep images at most this elongated", ge=1, le=1000)


class Filters(Section):
    """Select the rows of the URL table to download; a filter that is absent keeps everything."""

    language: Choice | None = None
    unsafe: Choice | None = None
    similarity: Similarity | None = None
    size: Size | None = None


Extension = Annotated[str, Field(pattern=r"^[a-z0-9]+(\.[a-z0-9]+)*$", max_length=64)]  # of a member, in lower case


class Cache(Section):
    """Bound the copies of tars that lie elsewhere; all processes of a machine share them."""

    folder: Place = Field(description="folder of the copies, best on a disk of the machine itself")
    gigabytes: float = Field(
        description="room for them, of 10^9 bytes; three times train.shuffle_shards tars at least", gt=0, le=1e6
    )


def fault_of_place(key: str, place: str | None) -> str | None:
    """Return why the place of a key cannot be read; None where it may be."""
    if not place or not is_remote(place):
        return None
    only_tars = "it must lie on a disk; only tars (shards) may lie elsewhere"
    fault = fault_of(place) if key.startswith("shards") else only_tars
    return fault and f"{key}: {fault}"


class Source(Section):
    """Describe where pairs come from: a table of URLs, a table of image files, or tars."""

    table: Place | None = Field(
        description="'world', or a path or glob of .parquet, .tsv, .tsv.gz, .csv or .jsonl files; null: see shards"
    )
    shards: Place | dict[Name, Place] | None = Field(
        description="tars in webdataset's form (img2dataset's, too), read where they are: a path, a glob, ranges as "
        "{000..127}, or a folder that they are below; also of s3://, https:// and hf://. Of several sources, each by a "
        "name (see train.source_weights)"
    )
    cache: Cache
    images: Place | None = Field(
        description="folder of the image files that the table's url_column names, which then are no URLs"
    )
    url_column: Text = Field(description="column with the URL; TSV files without a header have caption, url")
    caption_column: Text = Field(description="column with the caption, or key of it in a tar's .json members")
    further_captions: Distinct[Text] = Field(
        description="columns, or keys of .json members, with more captions of the same image"
    )
    synthetic_captions: Distinct[Text] = Field(
        description="columns, or keys of .json members, with captions that a model has written; see "
        "captions.synthetic_share"
    )
    image_members: Distinct[Extension] = Field(
        description="extensions of images in tars; of several in one sample, the first of these counts", min_length=1
    )
    caption_member: Extension = Field(description="extension of captions in tars; json: see caption_column")
    sha256_column: Text | None = Field(
        description="column with the SHA-256 of each image's bytes, hexadecimal; images with another are refused"
    )
    translations: Place | None = Field(
        description="parquet file (or glob) with captions in other languages: the URL's column, and one of text for "
        "each, named by its code (de); the world has its own"
    )
    filters: Filters
    sample: Count | None = Field(description="rows to draw at random after filtering; null keeps all")

    @property
    def kind(self) -> str:
        """Return what pairs come from: 'world', 'urls', 'files' or 'tars'."""
        if self.shards:
            return "tars"
        return "files" if self.images else "world" if self.table == "world" else "urls"

    @property
    def place(self) -> str:
        """Return what names the table, or the tars, in a line."""
        return ", ".join(self.places.values())

    @property
    def places(self) -> dict[str, str]:
        """Return the path or glob that names the table, or the tars of each source by its name: '' for the only one."""
        if not self.shards:
            return {"": self.table or ""}
        named = self.shards if isinstance(self.shards, dict) else {"": self.shards}
        return {
            name: place if place.endswith(".tar") else f"{place.rstrip('/')}/**/*.tar" for name, place in named.items()
        }

    @property
    def key(self) -> str:
        """Return the key that names the place."""
        return "shards" if self.shards else "table"

    @model_validator(mode="after")
    def is_one(self) -> Self:
        if (self.table is None) == (self.shards is None):
            both = f"table = '{self.table}' and shards = '{self.place}' are two sources; set one of them to null"
            raise ValueError(both if self.table else "table and shards are null; name one of them")
        if self.images and self.table in (None, "world"):
            raise ValueError("images is for the files that a table names; name that in table, or set images to null")
        once_each([self.caption_column, *self.further_captions, *self.synthetic_captions])
        named = {f"shards.{name}" if name else self.key: place for name, place in self.places.items()}
        for key, place in (named | {"images": self.images}).items():
            if fault := fault_of_place(key, place):
                raise ValueError(fault)
        filters = self.filters.model_dump(exclude_none=True)
        only = {"sample": self.sample, "sha256_column": self.sha256_column, "translations": self.translations}
        if self.shards and (given := [*filter(only.get, only), *(f"filters.{name}" for name in filters)]):
            raise ValueError(f"{', '.join(given)}: for the rows of a table, and shards has none; leave out")
        return self
