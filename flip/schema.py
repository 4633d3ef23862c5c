"""Names, types, units and limits of every parameter; the values are in params.yaml.

Imports neither torch nor Snakemake, since every dry run loads it.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flip.schema_model import (
    Blocks,
    Contrastive,
    Form,
    Logits,
    Masking,
    Model,
    Reconstruction,
    Sigmoid,
    TextForm,
    Tower,
    VisionForm,
)
from flip.schema_types import Count, Name, Positive, Section, Share

# What other modules import from here.
__all__ = [
    "Augmentation",
    "Blocks",
    "Captions",
    "Faults",
    "Filters",
    "Form",
    "Masking",
    "Model",
    "Params",
    "Reconstruction",
    "Section",
    "Source",
    "Table",
    "TextForm",
    "Tower",
    "Tradeoff",
    "Train",
    "VisionForm",
    "World",
]


class Similarity(Section):
    column: str = Field(description="column with the image-text similarity (LAION: similarity)")
    at_least: float = Field(description="keep rows with at least this score")


class Choice(Section):
    column: str = Field(description="column to look at (LAION: LANGUAGE, NSFW)")
    keep: list[str] = Field(description="values that are kept", min_length=1)


class Size(Section):
    width_column: str = Field(description="column with the picture's width, pixels")
    height_column: str = Field(description="column with the picture's height, pixels")
    min_side: int = Field(0, description="keep pictures whose shorter side has at least this many pixels", ge=0)
    max_aspect_ratio: float | None = Field(None, description="keep pictures at most this elongated", ge=1)


class Filters(Section):
    """Rows of the URL table to ask for; each filter that is absent keeps everything."""

    language: Choice | None = None
    unsafe: Choice | None = None
    similarity: Similarity | None = None
    size: Size | None = None


class Source(Section):
    """Where the URL table comes from."""

    table: str = Field(description="'world', or a path or glob of .parquet, .tsv, .tsv.gz or .csv files")
    url_column: str = Field(description="column with the URL; TSV files without a header have caption, url")
    caption_column: str = Field(description="column with the caption")
    sha256_column: str | None = Field(
        description="column with the SHA-256 of each picture's bytes, hexadecimal; pictures with another are refused"
    )
    filters: Filters
    sample: Count | None = Field(description="rows to draw at random after filtering; null keeps all")


class Faults(Section):
    """Share of the world's URLs that answer as the web does when it fails."""

    not_found: Share
    forbidden: Share
    slow: Share = Field(description="answers only after the download's time-out")
    reset: Share = Field(description="connection reset before the body")
    truncated: Share = Field(description="JPEG cut in the middle")
    html: Share = Field(description="an HTML page instead of a picture, with status 200")
    tiny: Share = Field(description="a tracking pixel")
    huge: Share = Field(description="a picture of many megapixels")

    @model_validator(mode="after")
    def at_most_all(self):
        total = sum(self.model_dump().values())
        if total > 1:
            raise ValueError(f"the shares add up to {total:g}; at most 1 is possible")
        return self


class TestSets(Section):
    """Pictures per test set of the world."""

    coarse: Count
    fine: Count
    shifted: Count = Field(description="pictures in each of the shifted sets")
    retrieval: Count = Field(description="pictures with five captions each")


class World(Section):
    """The embedded world of captioned pictures."""

    seed: int
    pictures: Count = Field(description="rows of the URL table")
    wrong_captions: Share = Field(description="share of captions that describe another picture")
    duplicates: Share = Field(description="share of rows whose picture is that of an earlier row")
    leaked: Share = Field(description="share of rows that show a picture of a test set")
    faults: Faults
    tests: TestSets


class Download(Section):
    """img2dataset's options."""

    parts: Count = Field(description="parts of the URL table, one job each")
    image_size: Count = Field(description="shorter side of the stored pictures, pixels; smaller ones stay as they are")
    processes: Count
    threads: Count
    timeout: Count = Field(description="seconds")
    retries: int = Field(ge=0)
    min_image_size: int = Field(description="smaller pictures (shorter side, pixels) are refused", ge=0)
    max_aspect_ratio: float = Field(ge=1)
    quality: int = Field(description="JPEG quality of the stored pictures", ge=1, le=100)
    samples_per_shard: Count


class Shards(Section):
    samples_per_shard: Count
    buckets: Count = Field(description="jobs that share the search for duplicates, by hash")
    only: str | None = Field(
        description="parquet file (or glob) with a column sha256: pictures that are not in it are dropped"
    )


class Tokenizer(Section):
    kind: Literal["wordpiece", "clip", "bert"] = Field(
        description="WordPiece trained on the captions, CLIP's BPE (from open_clip), or bert-base-uncased"
    )
    vocabulary: Count = Field(description="entries at most; wordpiece only")
    path: str | None = Field(description="bert: a local folder or hub name")


class Captions(Section):
    """How a caption's tokens are put into its slots. What stays empty is never attended to."""

    start: bool = Field(description="a start token before each caption")
    end: bool = Field(description="an end token after each caption, however short it has to be cut")
    fill: bool = Field(description="end tokens in the slots that are left, which are attended to (SigLIP)")

    @model_validator(mode="after")
    def can_fill(self):
        if self.fill and not self.end:
            raise ValueError("fill = true repeats the end token, and there is none; set captions.end to true")
        return self


class Augmentation(Section):
    """Random resized crop; no colour changes (FLIP, appendix)."""

    crop_area: tuple[Share, Share] = Field(description="smallest and largest share of the area")
    crop_aspect: tuple[Positive, Positive] = Field(description="smallest and largest aspect ratio")
    flip: bool = Field(description="mirror half of the pictures")


class Train(Section):
    """AdamW with a cosine schedule counted in samples (FLIP, Table 10)."""

    batch: Count = Field(description="pairs per step of the unmasked baseline")
    batch_scale: Count = Field(description="this variant's batch over the baseline's")
    micro_batch: Count | None = Field(
        description="pairs whose activations are held at a time, for one more forward pass; null: the whole batch"
    )
    epochs: Positive = Field(description="passes over the training pairs")
    epochs_scale: Positive = Field(description="this variant's epochs over the baseline's")
    base_lr: Positive = Field(description="learning rate at a batch of 256; scales linearly")
    warmup_samples: int = Field(description="pairs until the peak learning rate", ge=0)
    weight_decay: float = Field(ge=0)
    betas: tuple[Share, Share]
    epsilon: Positive
    precision: Literal["float32", "bfloat16"]
    checkpoint_activations: bool = Field(description="compute activations twice rather than keep them; same results")
    shuffle_shards: Count = Field(description="shards whose samples are shuffled together")
    workers: int = Field(description="threads that prepare batches ahead; 0: none", ge=0)
    checkpoint_minutes: Positive = Field(description="wall-clock minutes between checkpoints")

    @model_validator(mode="after")
    def micro_batches_tile(self):
        batch, size = self.global_batch, self.micro_batch
        if size and batch % size:
            nearest = max(n for n in range(1, min(size, batch) + 1) if batch % n == 0)
            raise ValueError(
                f"micro_batch = {size} does not divide batch x batch_scale = {batch}; allowed: null, or a divisor of "
                f"{batch}, such as {nearest}"
            )
        return self

    @property
    def global_batch(self) -> int:
        return self.batch * self.batch_scale

    @property
    def peak_lr(self) -> float:
        return self.base_lr * self.global_batch / 256

    @property
    def total_epochs(self) -> float:
        return self.epochs * self.epochs_scale


class Evaluate(Section):
    sets: dict[Name, str] = Field(
        description="role -> 'world', or a folder in clip-benchmark's webdataset layout; 'fine' is required"
    )
    batch: Count

    @model_validator(mode="after")
    def has_fine(self):
        if "fine" not in self.sets:
            raise ValueError("sets has no 'fine', the set that masked inference is measured on")
        return self


class Bootstrap(Section):
    resamples: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]


class Cost(Section):
    rounds: int = Field(description="interleaved rounds of timed steps; the median counts", ge=3)
    batch: Count = Field(description="pairs per measured step at most: what one device holds")


class Job(Section):
    """What a job of a stage asks the cluster for."""

    threads: Count
    gpus: int = Field(ge=0)
    memory_mb: Count
    minutes: Count


class Resources(Section):
    data: Job
    pretrain: Job
    evaluate: Job


class Params(Section):
    """One variant at one scale, fully resolved: what `params.yaml` beside its results holds."""

    scale: Name
    variant: Name
    start: Name | None = Field(None, description="variant whose weights this one starts from")
    seeds: list[int] = Field(min_length=1)
    source: Source
    world: World
    download: Download
    shards: Shards
    tokenizer: Tokenizer
    captions: Captions
    model: Model
    form: Form
    augmentation: Augmentation
    masking: Masking
    logits: Logits
    contrastive: Contrastive
    sigmoid: Sigmoid
    reconstruction: Reconstruction
    train: Train
    evaluate: Evaluate
    bootstrap: Bootstrap
    cost: Cost
    resources: Resources

    @property
    def embedding(self) -> int:
        """Width of the common space."""
        return self.model.vision.width if self.form.vision.projection == "none" else self.model.embedding

    @property
    def kept_patches(self) -> int:
        """Patches that the vision tower sees in training: int(patches x (1 - masking.image)), as in MAE."""
        return int(self.model.patches * (1 - self.masking.image))

    @property
    def kept_tokens(self) -> int:
        return int(self.model.tokens * (1 - self.masking.text))

    @model_validator(mode="after")
    def is_possible(self):
        for side, kept, slots in (
            ("image", self.kept_patches, self.model.patches),
            ("text", self.kept_tokens, self.model.tokens),
        ):
            if kept < 1:
                limit = 1 - 1 / slots
                raise ValueError(f"masking.{side} keeps none of the {slots} slots; allowed: 0 to {limit:.4f}")
        batch = self.train.global_batch
        if self.source.table == "world" and batch > self.world.pictures:
            raise ValueError(
                f"train.batch x train.batch_scale = {batch} is larger than the data; allowed: 1 to "
                f"{self.world.pictures}, the world.pictures"
            )
        return self

    @model_validator(mode="after")
    def losses_are_possible(self):
        if not self.contrastive.weight and not self.sigmoid.weight:
            raise ValueError("no loss ties pictures to captions: give contrastive.weight or sigmoid.weight a value")
        if self.reconstruction.weight and not self.masking.image:
            raise ValueError(
                "reconstruction.weight needs removed patches: set masking.image above 0, or the weight to 0"
            )
        return self

    @model_validator(mode="after")
    def captions_are_possible(self):
        """The feature of a text tower with `last` pooling is the end token's, so each caption must keep one."""
        if self.form.text.pooling == "last" and not self.captions.end:
            raise ValueError("form.text.pooling = 'last' reads the end token: set captions.end to true, or use 'mean'")
        if self.form.text.pooling == "last" and self.masking.text:
            raise ValueError(
                "masking.text would remove the end token that form.text.pooling = 'last' reads: use 'mean', or set "
                "masking.text to 0"
            )
        if self.model.tokens <= self.captions.start + self.captions.end:
            raise ValueError(f"model.tokens = {self.model.tokens} leaves no slot for words beside captions' own tokens")
        return self


class Table(Section):
    title: str
    variants: list[Name] = Field(description="rows, baseline first", min_length=1)
    metrics: list[Name] = Field(description="columns", min_length=1)
    mixed_data: bool = Field(False, description="rows may be trained on different data; the table then says which")


class Tradeoff(Section):
    metric: Name
    curves: dict[str, list[Name]] = Field(description="one curve per mask ratio: its variants")
