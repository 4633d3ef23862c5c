"""Define parameters of where pairs come from: tables of URLs or files, tars, and the filters of their rows."""

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, WithJsonSchema, model_validator

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


# Of one source among several: the keys that it has otherwise.
Own = Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/$defs/Source"})]
COMMON = ("several", "cache", "translations")  # what all have alike


class Source(Section):
    """Describe where pairs come from: a table of URLs, a table of image files, tars, or several of these."""

    table: Place | None = Field(
        description="'world', or a path or glob of .parquet, .tsv, .tsv.gz, .csv or .jsonl files; null: see shards"
    )
    shards: Place | None = Field(
        description="tars in webdataset's form (img2dataset's, too), read where they are: a path, a glob, ranges as "
        "{000..127}, or a folder that they are below; also of s3://, https:// and hf://"
    )
    several: dict[Name, Own | None] = Field(
        description="several sources, each by a name (see train.source_weights): table or shards, and the keys beside "
        "them that it has otherwise; table and shards are then null. null: none of that name"
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
    caption_member: Extension = Field(
        description="extension of captions in tars; json: see caption_column, cls: see classes"
    )
    classes: Place | None = Field(
        description="folder as of a test set in clip-benchmark's layout, with classnames.txt, a name a line, for "
        "tars whose .cls members have a class's number, from 0 on; captions are the names in the templates of "
        "zeroshot_classification_templates.txt, if that is there"
    )
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
        """Return what pairs come from: 'world', 'urls', 'files', 'tars', or 'several' of these."""
        if self.several:
            return "several"
        if self.shards:
            return "tars"
        return "files" if self.images else "world" if self.table == "world" else "urls"

    @property
    def downloads(self) -> bool:
        """Return whether images come from the web, one by one."""
        return any(one.kind in ("urls", "world") for one in self.named.values())

    @property
    def named(self) -> dict[str, "Source"]:
        """Return each source by its name; the only one by ''.

        Raises:
            ValueError: one of several is none, with all of its faults.
        """
        if not self.several:
            return {"": self}
        common = self.model_dump() | {"several": {}}
        return {name: only(f"several.{name}", common, own) for name, own in self.several.items() if own is not None}

    @property
    def place(self) -> str:
        """Return what names the table, or the tars, in a line; of several sources all of them."""
        return ", ".join(self.places.values())

    @property
    def places(self) -> dict[str, str]:
        """Return the path or glob that names the table, or the tars, of each source by its name."""
        return {name: one.table or tars_below(one.shards or "") for name, one in self.named.items()}

    @property
    def beside(self) -> list[str]:
        """Return what is read beside table and tars: of image files all below their folder, and names of classes."""
        every = self.named.values()
        return [f"{one.images}/**" for one in every if one.images] + [one.classes for one in every if one.classes]

    @property
    def key(self) -> str:
        """Return the key that names the place."""
        return "several" if self.several else "shards" if self.shards else "table"

    @model_validator(mode="after")
    def is_one(self) -> Self:
        given = [f"{key} = {shown(getattr(self, key))}" for key in ("table", "shards", "several") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two sources; set one of them to null, or name both in several")
        if not given:
            raise ValueError("table and shards are null, and several is empty; name one of them")
        if not self.named:
            raise ValueError("several: no source is left; name one")
        if self.images and (self.shards or self.table == "world"):
            raise ValueError("images is for the files that a table names; name that in table, or set images to null")
        once_each([self.caption_column, *self.further_captions, *self.synthetic_captions])
        for key, place in {self.key: self.place, "images": self.images, "classes": self.classes}.items():
            if not self.several and (fault := fault_of_place(key, place)):
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def has_what_is_read(self) -> Self:
        filters = self.filters.model_dump(exclude_none=True)
        only = {"sample": self.sample, "sha256_column": self.sha256_column, "translations": self.translations}
        if self.shards and (given := [*filter(only.get, only), *(f"filters.{name}" for name in filters)]):
            raise ValueError(f"{', '.join(given)}: for the rows of a table, and shards has none; leave out")
        if self.several and self.translations:
            raise ValueError("translations: for the URLs of one table, and there are several sources; leave out")
        if self.kind == "tars" and (self.caption_member == "cls") != bool(self.classes):
            raise ValueError(
                f"caption_member = '{self.caption_member}' and classes = {self.classes!r}: a .cls member has a class's "
                "number, whose name classes gives; set both, or neither"
            )
        return self


def shown(value: str | dict[str, Any]) -> str:
    """Write a place, or the names of several sources, for a message."""
    return f"'{value}'" if isinstance(value, str) else f"{{{', '.join(value)}}}"


def tars_below(place: str) -> str:
    """Return the path or glob of tars that a place of tars stands for, which may be a folder."""
    return place if place.endswith(".tar") else f"{place.rstrip('/')}/**/*.tar"


def only(key: str, common: dict[str, Any], own: dict[str, Any]) -> Source:
    """Return a source of several, whose key is for messages, by what all have and what it has otherwise.

    Raises:
        ValueError: with all of its faults.
    """
    if alike := [one for one in COMMON if one in own]:
        raise ValueError(f"{key}.{alike[0]}: all sources have it alike; leave out here")
    try:
        found = Source.model_validate(common | own)
    except ValidationError as error:
        faults = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        raise ValueError("; ".join(f"{key}{at and f'.{at}'}: {fault}" for at, fault in faults)) from None
    if found.kind == "world":
        raise ValueError(f"{key}: the synthetic data set cannot be one of several; name files")
    return found
