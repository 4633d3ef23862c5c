"""Names, types, units and limits of every parameter; the values are in params.yaml.

Imports neither torch nor Snakemake, since every dry run loads it.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flip.schema_data import (
    Augmentation,
    Captions,
    Download,
    Faults,
    Filters,
    Noise,
    Shards,
    Source,
    Tokenizer,
    World,
)
from flip.schema_flava import Codebook, Flava
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
    "Codebook",
    "Faults",
    "Filters",
    "Flava",
    "Form",
    "Masking",
    "Model",
    "Noise",
    "Params",
    "Reconstruction",
    "Report",
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
    shard_weights: bool = Field(
        description="split weights, gradients and optimizer state over the processes (FSDP2) instead of copying (DDP)"
    )
    checkpoint_minutes: Positive = Field(description="wall-clock minutes between checkpoints")
    checkpoint_samples: Count | None = Field(description="samples between checkpoints, instead of minutes")
    keep_checkpoints: Count = Field(description="checkpoints that are kept while training goes on, the newest")
    skip_nonfinite: int = Field(
        description="steps that may be left out since a loss or gradient is not finite; the next one ends the run", ge=0
    )
    stall_minutes: Positive = Field(description="a run in which no step ends for so long ends itself")

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

    def steps(self, samples: int) -> int:
        """Steps of the whole run over `samples` training pairs: whole batches only, at least one."""
        return max(int(self.total_epochs * samples) // self.global_batch, 1)


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

    threads: Count = Field(description="processor cores per process")
    gpus: int = Field(description="GPUs per process", ge=0)
    memory_mb: Count = Field(description="memory per node, MB")
    minutes: Count = Field(description="time limit")


class Training(Job):
    """A job of many processes, which is stopped ahead of its time limit and queued again."""

    nodes: Count
    processes: Count = Field(description="processes per node")
    stop_seconds: Count = Field(description="this long before the time limit a checkpoint is written and the job ends")

    @model_validator(mode="after")
    def has_time_to_train(self):
        if self.stop_seconds >= 60 * self.minutes:
            raise ValueError(
                f"stop_seconds = {self.stop_seconds} leaves none of the {self.minutes} minutes; "
                f"allowed: 1 to {60 * self.minutes - 1}; lower it or raise minutes"
            )
        return self

    @property
    def cores(self) -> int:
        """Processor cores per node."""
        return self.processes * self.threads


class Resources(Section):
    data: Job
    pretrain: Training
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
    noise: Noise
    masking: Masking
    logits: Logits
    contrastive: Contrastive
    sigmoid: Sigmoid
    reconstruction: Reconstruction
    flava: Flava
    codebook: Codebook
    train: Train
    evaluate: Evaluate
    bootstrap: Bootstrap
    cost: Cost
    resources: Resources

    @property
    def embedding(self) -> int:
        """Width of the common space; of image features alone, where there is none."""
        projected = self.aligned and self.form.vision.projection != "none"
        return self.model.embedding if projected else self.model.vision.width

    @property
    def aligned(self) -> bool:
        """Whether a loss ties pictures to captions; without one there is no text tower."""
        return bool(self.contrastive.weight or self.sigmoid.weight)

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
        if not (self.aligned or self.reconstruction.weight or self.flava.mim):
            raise ValueError(
                "no loss: give contrastive.weight, sigmoid.weight, reconstruction.weight or flava.mim a value"
            )
        self.flava.check(self)
        if self.form.vision.pooling == "map" and not self.aligned:
            raise ValueError("form.vision.pooling = 'map' has nothing that would train it: use 'mean' or 'class'")
        if self.masking.text and not self.aligned:
            raise ValueError("masking.text has no text tower to act on: set it to 0, or contrastive.weight above 0")
        if self.reconstruction.weight and not self.masking.image:
            raise ValueError(
                "reconstruction.weight needs removed patches: set masking.image above 0, or the weight to 0"
            )
        return self

    @model_validator(mode="after")
    def captions_are_possible(self):
        self.form.text.check(self.captions, self.masking)
        if self.model.tokens <= self.captions.start + self.captions.end:
            raise ValueError(f"model.tokens = {self.model.tokens} leaves no slot for words beside captions' own tokens")
        return self


class Report(Section):
    """A page of tables, made by a target of its own that trains only the variants which they name."""

    title: str = Field(description="what the page is called")
    question: str = Field(description="what its tables answer")
    about: str = Field(description="what it compares, in a few sentences")


class Table(Section):
    title: str
    report: Name = Field(description="which report shows it")
    variants: list[Name] = Field(description="rows, baseline first", min_length=1)
    metrics: list[Name] = Field(description="columns", min_length=1)
    mixed_data: bool = Field(False, description="rows may be trained on different data; the table then says which")


class Tradeoff(Section):
    report: Name = Field(description="which report shows the figure")
    metric: Name
    curves: dict[str, list[Name]] = Field(description="one curve per mask ratio: its variants")
