"""Define parameters of pairs once they are here: shards, tokenizer, captions, augmentation, noise, batch types."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.source import Source
from flip.config.sections.types import (
    Distinct,
    Few,
    Language,
    Pixels,
    Place,
    Range,
    Section,
    Shard,
    Share,
    Vocabulary,
    numbered,
)

ENGLISH = "en"  # stands for captions as they come
WORLD_LANGUAGES = (ENGLISH, "de", "es", "ru")  # that the world's captions can be had in


class Compact(Section):
    """Describe resized copies of the images, stored at the size that training needs."""

    image_size: Pixels = Field(description="shorter side, pixels; smaller images stay as they are")
    quality: int = Field(description="JPEG quality", ge=1, le=100)


class Shards(Section):
    samples_per_shard: Shard
    compact: Compact | None = Field(description="null: images stay as they were downloaded, to the byte")
    buckets: Few = Field(description="number of jobs for the duplicate search, split by hash")
    only: Place | None = Field(description="parquet file (or glob) with a column sha256; images not in it are dropped")

    @property
    def bucket_names(self) -> list[str]:
        return numbered(self.buckets)


class Tokenizer(Section):
    kind: Literal["wordpiece", "clip", "bert"] = Field(
        description="WordPiece trained on the captions, CLIP's BPE (from open_clip), or bert-base-uncased"
    )
    vocabulary: Vocabulary = Field(description="largest vocabulary, entries; wordpiece only")
    path: Place | None = Field(description="bert: a local folder or hub name")
    multilingual: Vocabulary = Field(
        description="largest vocabulary, entries, of the WordPiece tokenizer for captions in several languages"
    )
    least_count: int = Field(
        5,
        description="smallest count of a word in the training captions to have its own frequency, for masks by words "
        "(CLIPF: 5)",
        ge=1,
        le=10**9,
    )

    @model_validator(mode="after")
    def is_somewhere(self) -> Self:
        if self.kind == "bert" and self.path is None:
            raise ValueError("path = null, and kind = 'bert' needs a folder or a hub name")
        return self


class Captions(Section):
    """Describe how a caption becomes tokens, and how these fill token positions; padding is never attended to."""

    tokenizer: Literal["scale", "clip"] | Annotated[Place, Field(pattern=r"\.json$")] = Field(
        description="the scale's tokenizer, CLIP's BPE (from open_clip, needs no training), or a tokenizer file as "
        "`flip import` writes it"
    )
    languages: Distinct[Language] = Field(
        description="languages of the captions; each image has its caption in one of them; en: the original captions",
        min_length=1,
    )
    synthetic_share: Share | None = Field(
        None,
        description="probability of drawing a synthetic caption of an image (source.synthetic_captions); null: all "
        "its captions are equally likely",
    )
    start: bool = Field(description="a start token before each caption")
    end: bool = Field(description="an end token after each caption, also after truncation")
    fill: bool = Field(description="pad with end tokens, which are attended to (SigLIP)")

    @property
    def tokenizer_file(self) -> str | None:
        return self.tokenizer if self.tokenizer.endswith(".json") else None

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

    def unwritten(self, source: Source) -> str | None:
        """Return why the source has no synthetic captions to draw; None if it has, or none are asked for."""
        if self.synthetic_share is None or any(one.synthetic_captions for one in source.named.values()):
            return None
        return (
            f"captions.synthetic_share = {self.synthetic_share:g}: source.synthetic_captions names no column to "
            "draw from; name one, or set the share to null"
        )

    @model_validator(mode="after")
    def can_fill(self) -> Self:
        if self.fill and not self.end:
            raise ValueError("fill = true repeats the end token, and there is none; set captions.end to true")
        return self


class Augmentation(Section):
    """Describe the random resized crop; there are no colour changes (FLIP, appendix)."""

    crop_area: Range[Annotated[float, Field(gt=0, le=1)]] = Field(
        description="smallest and largest share of the image's area; [1, 1]: the whole image"
    )
    crop_aspect: Range[Annotated[float, Field(ge=0.01, le=100)]] = Field(
        description="smallest and largest aspect ratio"
    )
    flip: bool = Field(description="mirror half of the images")


class Noise(Section):
    """Describe training pairs corrupted on purpose; each kind is drawn by itself, whenever a pair is seen."""

    images: Share = Field(description="share of images replaced by uniform noise")
    texts: Share = Field(description="share of captions whose words are replaced by random tokens")
    pairs: Share = Field(description="share of captions that are shuffled within a global batch")

    @property
    def any(self) -> bool:
        return bool(self.images or self.texts or self.pairs)


class Views(Augmentation):
    """Describe SimCLR's two views of an image (Chen et al. 2020, appendix A): crops in other colours, some gray or
    blurred.

    Brightness, contrast and saturation are multiplied by 1 +- a number up to the one given; order and use as in
    torchvision's ColorJitter.
    """

    jitter_share: Share = Field(description="share of views with colour jitter")
    brightness: Share
    contrast: Share
    saturation: Share
    hue: float = Field(description="largest shift of the hue, as a share of the circle", ge=0, le=0.5)
    gray_share: Share = Field(description="share of views converted to grey")
    blur_share: Share = Field(description="share of views that are blurred")
    blur_sigma: Range[Annotated[float, Field(gt=0, le=100)]] = Field(
        description="smallest and largest sigma of the blur, pixels"
    )


class Mix(Section):
    """Say what the samples are used as: shares of the data, which do not overlap, and of the steps, which take turns
    (FLAVA, Table A.2: 0.70 pairs, 0.15 images, 0.15 texts, of a data set each)."""

    pairs: Share = Field(description="share of the samples used as pairs, by all losses")
    images: Share = Field(description="share of the samples used as images alone, by mim")
    texts: Share = Field(description="share of the samples used as captions alone, by mlm")

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
