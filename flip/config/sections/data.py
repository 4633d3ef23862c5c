"""Define parameters of the data: source, synthetic data set, download, shards, captions, augmentation, noise."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.types import (
    Count,
    Distinct,
    Few,
    Language,
    Minutes,
    Natural,
    Pixels,
    Place,
    Positive,
    Range,
    Section,
    Seed,
    Shard,
    Share,
    Text,
    Vocabulary,
)

GROUPS = 256  # of parts, at most: buckets read a file of each, and a group's hashes are in memory at once
ENGLISH = "en"  # stands for captions as they come
WORLD_LANGUAGES = (ENGLISH, "de", "es", "ru")  # that the world's captions can be had in


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


class Source(Section):
    """Describe where pairs come from: a table of URLs, a table of image files, or tars."""

    table: Place | None = Field(
        description="'world', or a path or glob of .parquet, .tsv, .tsv.gz, .csv or .jsonl files; null: see shards"
    )
    shards: Place | None = Field(
        description="tars in webdataset's form (img2dataset's, too), read where they are: a path, a glob, ranges as "
        "{000..127}, or a folder that they are below"
    )
    images: Place | None = Field(
        description="folder of the image files that the table's url_column names, which then are no URLs"
    )
    url_column: Text = Field(description="column with the URL; TSV files without a header have caption, url")
    caption_column: Text = Field(description="column with the caption, or key of it in a tar's .json members")
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
        """Return the path or glob that names the table, or the tars."""
        if self.shards:
            return self.shards if self.shards.endswith(".tar") else f"{self.shards.rstrip('/')}/**/*.tar"
        return self.table or ""

    @property
    def key(self) -> str:
        """Return the key that names the place."""
        return "shards" if self.shards else "table"

    @model_validator(mode="after")
    def is_one(self) -> Self:
        if (self.table is None) == (self.shards is None):
            both = f"table = '{self.table}' and shards = '{self.shards}' are two sources; set one of them to null"
            raise ValueError(both if self.table else "table and shards are null; name one of them")
        if self.images and self.table in (None, "world"):
            raise ValueError("images is for the files that a table names; name that in table, or set images to null")
        filters = self.filters.model_dump(exclude_none=True)
        only = {"sample": self.sample, "sha256_column": self.sha256_column, "translations": self.translations}
        if self.shards and (given := [*filter(only.get, only), *(f"filters.{name}" for name in filters)]):
            raise ValueError(f"{', '.join(given)}: for the rows of a table, and shards has none; leave out")
        return self


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
    pictures: Natural = Field(description="rows of the URL table", le=10**9)
    wrong_captions: Share = Field(description="share of captions that describe another image")
    duplicates: Share = Field(description="share of rows whose image is that of an earlier row")
    leaked: Share = Field(description="share of rows that show an image of a test set, pointing aside")
    faults: NetworkErrors
    tests: TestSets
    probe: ProbeSets


def numbered(count: int, digits: int = 1) -> list[str]:
    """Return the numbers below `count`, all with as many digits as the last one needs, or more."""
    digits = max(digits, len(str(count - 1)))
    return [f"{number:0{digits}d}" for number in range(count)]


class Download(Section):
    """Hold img2dataset's options."""

    schemes: Distinct[Literal["http", "https", "ftp", "file", "data"]] = Field(
        description="schemes of the URLs that are fetched; rows with others are counted as refused", min_length=1
    )
    parts: Natural = Field(description="parts of the URL table, one job each", le=10**5)
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
    per_host: Few = Field(description="connections to one host at once, of a part")
    per_host_second: Positive | None = Field(description="requests a second to one host, of a part; null: no limit")
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


class Compact(Section):
    """Describe resized copies of the images, stored at the size that training needs."""

    image_size: Pixels = Field(description="shorter side, pixels; smaller images stay as they are")
    quality: int = Field(description="of the JPEGs", ge=1, le=100)


class Shards(Section):
    samples_per_shard: Shard
    compact: Compact | None = Field(description="null: images stay as they were downloaded, to the byte")
    buckets: Few = Field(description="jobs that share the search for duplicates, by hash")
    only: Place | None = Field(
        description="parquet file (or glob) with a column sha256: images that are not in it are dropped"
    )

    @property
    def bucket_names(self) -> list[str]:
        return numbered(self.buckets)


class Tokenizer(Section):
    kind: Literal["wordpiece", "clip", "bert"] = Field(
        description="WordPiece trained on the captions, CLIP's BPE (from open_clip), or bert-base-uncased"
    )
    vocabulary: Vocabulary = Field(description="entries at most; wordpiece only")
    path: Place | None = Field(description="bert: a local folder or hub name")
    multilingual: Vocabulary = Field(
        description="entries at most of the WordPiece that captions in several languages are trained a tokenizer of "
        "their own with"
    )

    @model_validator(mode="after")
    def is_somewhere(self) -> Self:
        if self.kind == "bert" and self.path is None:
            raise ValueError("path = null, and kind = 'bert' needs a folder or a hub name")
        return self


class Captions(Section):
    """Describe how a caption becomes tokens, and how these fill token positions; padding is never attended to."""

    tokenizer: Literal["scale", "clip"] = Field(
        description="the scale's own, or CLIP's BPE, which needs no training (open_clip)"
    )
    languages: Distinct[Language] = Field(
        description="languages that images have their captions in, each image's in one of them; en: as they come",
        min_length=1,
    )
    start: bool = Field(description="a start token before each caption")
    end: bool = Field(description="an end token after each caption, however short it has to be cut")
    fill: bool = Field(description="end tokens in the slots that are left, which are attended to (SigLIP)")

    @property
    def translated(self) -> list[str]:
        """Return the languages that captions are translated to."""
        return [language for language in self.languages if language != ENGLISH]

    @property
    def language_key(self) -> str:
        """Return the name of files of captions in these languages."""
        return "-".join(self.languages)

    def untranslated(self, source: Source) -> str | None:
        """Return why the source cannot provide these captions; None if it can."""
        world = source.kind == "world"
        missing = [one for one in self.translated if one not in WORLD_LANGUAGES] if world else self.translated
        if not missing or (source.translations and not world):
            return None
        if world:
            known = ", ".join(WORLD_LANGUAGES)
            return f"captions.languages: the world does not speak {', '.join(missing)}; known: {known}"
        return (
            f"source.translations = null: captions.languages = {self.languages}, and the source has no captions in "
            f"{', '.join(missing)}; give a parquet file (or glob) with a column '{source.url_column}' and one per "
            f"language, or set captions.languages to [{ENGLISH}]"
        )

    @model_validator(mode="after")
    def can_fill(self) -> Self:
        if self.fill and not self.end:
            raise ValueError("fill = true repeats the end token, and there is none; set captions.end to true")
        return self


class Augmentation(Section):
    """Describe the random resized crop; there are no colour changes (FLIP, appendix)."""

    crop_area: Range[Annotated[float, Field(gt=0, le=1)]] = Field(
        description="smallest and largest share of the area; [1, 1]: the whole image"
    )
    crop_aspect: Range[Annotated[float, Field(ge=0.01, le=100)]] = Field(
        description="smallest and largest aspect ratio"
    )
    flip: bool = Field(description="mirror half of the images")


class Noise(Section):
    """Describe training pairs corrupted on purpose; each kind is drawn by itself, whenever a pair is seen."""

    images: Share = Field(description="share of images replaced by uniform noise")
    texts: Share = Field(description="share of captions whose words are replaced by random tokens")
    pairs: Share = Field(description="share of captions that are exchanged for each other within a global batch")

    @property
    def any(self) -> bool:
        return bool(self.images or self.texts or self.pairs)


class Views(Augmentation):
    """Describe SimCLR's two views of an image (Chen et al. 2020, appendix A): crops in other colours, some gray or
    blurred.

    Brightness, contrast and saturation are multiplied by 1 +- a number up to the one given; order and use as in
    torchvision's ColorJitter.
    """

    jitter_share: Share = Field(description="share of views in other colours")
    brightness: Share
    contrast: Share
    saturation: Share
    hue: float = Field(description="largest turn of the hue, as a share of the circle", ge=0, le=0.5)
    gray_share: Share = Field(description="share of views without colours")
    blur_share: Share = Field(description="share of views that are blurred")
    blur_sigma: Range[Annotated[float, Field(gt=0, le=100)]] = Field(
        description="smallest and largest sigma of the blur, pixels"
    )


class Mix(Section):
    """Say what the samples are used as: shares of the data, which do not overlap, and of the steps, which take turns
    (FLAVA, Table A.2: 0.70 pairs, 0.15 images, 0.15 texts, of a data set each)."""

    pairs: Share = Field(description="share of the samples whose image and caption all losses read")
    images: Share = Field(description="share of the samples whose image alone is read, by mim")
    texts: Share = Field(description="share of the samples whose caption alone is read, by mlm")

    @model_validator(mode="after")
    def is_all(self) -> Self:
        if abs((total := sum(self.model_dump().values())) - 1) > 1e-9:
            raise ValueError(f"pairs, images and texts add up to {total:g}; allowed: 1")
        return self

    @property
    def text(self) -> str:
        """Say it in words; nothing where all samples are pairs."""
        shares = self.shares.items()
        return " + ".join(f"{100 * share:g}% {name}" for name, share in shares) if self.pairs < 1 else ""

    @property
    def shares(self) -> dict[str, float]:
        """Map the batch types that there are to their shares."""
        return {name: share for name, share in self.model_dump().items() if share}
