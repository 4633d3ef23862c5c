"""Define names, types, units and limits of every parameter; the values are in params.yaml.

Imports neither torch nor Snakemake, since every dry run loads it.
"""

import math
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from flip.config.objectives import NAMES, Objectives
from flip.config.sections.curation import Curation
from flip.config.sections.data import Augmentation, Captions, Compact, Mix, Noise, Shards, Tokenizer, Views
from flip.config.sections.download import Download
from flip.config.sections.evaluate import Evaluate
from flip.config.sections.image_tokenizer import Codebook
from flip.config.sections.masking import Masking, must_keep
from flip.config.sections.model import (
    Blocks,
    Form,
    ImageTower,
    Logits,
    Model,
    TextForm,
    TextTower,
    Tower,
    VisionForm,
)
from flip.config.sections.resources import JobResources, Resources
from flip.config.sections.source import Cache, Filters, Source
from flip.config.sections.train import Train
from flip.config.sections.transfer import Transfer
from flip.config.sections.types import Batch, Count, Distinct, Name, Natural, Place, Section, Seed
from flip.config.sections.world import NetworkErrors, World

# What other modules import from here.
__all__ = [
    "Augmentation",
    "Blocks",
    "Cache",
    "Captions",
    "Codebook",
    "Compact",
    "Curation",
    "File",
    "Filters",
    "Form",
    "ImageTower",
    "JobResources",
    "Masking",
    "Mix",
    "Model",
    "NetworkErrors",
    "Noise",
    "Objectives",
    "Params",
    "Section",
    "Shards",
    "Source",
    "TextForm",
    "TextTower",
    "Tower",
    "Train",
    "Transfer",
    "Views",
    "VisionForm",
    "World",
]


class Bootstrap(Section):
    resamples: Natural = Field(le=10**6)
    confidence: Annotated[float, Field(gt=0, lt=1)]
    fewest: Count = Field(description="smallest number of test items (for AUC: per class) for a number in a table")

    @model_validator(mode="after")
    def has_tails(self) -> Self:
        if (needed := math.ceil(2 / (1 - self.confidence) - 1e-6)) > self.resamples:
            raise ValueError(
                f"resamples = {self.resamples} leave none beyond either end of an interval of confidence "
                f"{self.confidence}; allowed: {needed} and more, or a lower confidence"
            )
        return self


class CostSection(Section):
    rounds: int = Field(description="interleaved rounds of timed steps, of which the median is used", ge=3, le=10_000)
    batch: Batch = Field(description="largest batch of a measured step, pairs: what fits on one device")


STARTED = WEIGHTS, TOKENIZER = "weights.safetensors", "tokenizer.json"  # in a folder that a variant starts from


def is_folder(start: object) -> bool:
    """Return whether a `start` names a folder, and no variant, whose name has no slash."""
    return isinstance(start, str) and "/" in start


class File(Section):
    """Describe the outline of params.yaml; what is in the mappings is checked where it is used."""

    scale: Name
    base: dict[str, Any]
    models: dict[Name, dict[str, Any]] = Field(min_length=1)
    scales: dict[Name, dict[str, Any] | None] = Field(min_length=1)
    variants: dict[Name, dict[str, Any] | None] = Field(min_length=1)
    reports: dict[Name, dict[str, Any]] = Field(min_length=1)
    tables: dict[Name, dict[str, Any]] = Field(min_length=1)
    tradeoff: dict[str, Any] | None
    chosen: dict[Name, dict[str, Any]] | None = Field(None, description="by sweeps; jobs read it with all else")
    imported: dict[str, dict[str, Any]] | None = Field(
        None, description="what folders that variants start from decide; jobs read it with all else"
    )


class Params(Objectives):
    """Hold one variant at one scale, fully resolved, as `params.yaml` beside its results has it."""

    scale: Name
    variant: Name
    start: Place | None = Field(
        None, description="variant whose weights this one starts from, or a folder (with a /) that `flip import` made"
    )
    seeds: Distinct[Seed] = Field(min_length=1, max_length=1000)
    sweep: dict[
        str, Annotated[Distinct[float | int | str | bool | None], Field(min_length=2, max_length=100)] | None
    ] = Field(
        description="parameter (as train.base_lr) -> values, of which `snakemake sweep` chooses the best on "
        "evaluate.validation_set; for several parameters, all combinations; null: not swept, even if "
        "`like` says so"
    )
    source: Source
    world: World
    download: Download
    shards: Shards
    tokenizer: Tokenizer
    captions: Captions
    curation: Curation | None = Field(None, description="which pairs are trained on; null: all of the scale")
    model: Model
    form: Form
    image_tower: ImageTower
    text_tower: TextTower
    augmentation: Augmentation
    noise: Noise
    masking: Masking
    logits: Logits
    codebook: Codebook
    train: Train
    evaluate: Evaluate
    transfer: Transfer
    bootstrap: Bootstrap
    cost: CostSection
    resources: Resources

    @property
    def before(self) -> list[str]:
        """Return the variants whose training this one builds on."""
        builds_on = [one.builds_on for one in self.objectives.values()]
        scorer = self.curation.by if self.curation else None
        named = (self.start, self.image_tower.variant, self.text_tower.variant, scorer, *builds_on)
        return sorted({one for one in named if one is not None and not is_folder(one)})

    @property
    def start_files(self) -> dict[str, str]:
        """Return the weights and the tokenizer of the folder that this variant starts from, by their names; none
        where it starts from a variant, or anew."""
        return {name: f"{self.start}/{name}" for name in STARTED} if is_folder(self.start) else {}

    @property
    def features(self) -> str | None:
        """Return the name of the precomputed image features: the variant whose tower computes them, or, with a tower
        from a file, this one; None if the tower is trained."""
        return (self.image_tower.variant or self.variant) if self.image_tower.locked else None

    @property
    def embeddings(self) -> str | None:
        """Return the name of the stored embeddings that are learned from; None if there are none."""
        return self.distillation.stored_as(self.variant)

    @property
    def embedding(self) -> int:
        """Return the width of the common space, or without one that of image features."""
        projected = self.aligned and self.form.vision.projection != "none"
        return self.model.embedding if projected else self.model.vision.width

    @property
    def is_of_one_width(self) -> bool:
        """Tell whether FLAVA's three encoders are as wide."""
        return self.model.vision.width == self.model.text.width == self.flava.multimodal.width

    @property
    def unaligned(self) -> str | None:
        """Return why images cannot be compared with captions; None if they can."""
        if not (self.has_image_tower and self.has_text_tower):
            return f"no {'image' if self.has_text_tower else 'text'} tower"
        return None if self.aligned else "no common space"

    @property
    def kept_patches(self) -> int:
        """Return the patches that the image tower reads in training: int(patches x (1 - masking.image)), as in MAE."""
        return int(self.model.patches * (1 - self.masking.image))

    @property
    def kept_tokens(self) -> int:
        return int(self.model.tokens * (1 - self.masking.text))

    @model_validator(mode="after")
    def is_possible(self) -> Self:
        must_keep("masking.image", self.kept_patches, self.model.patches)
        must_keep("masking.text", self.kept_tokens, self.model.tokens)
        if self.masking.image_policy == "grid" and self.model.grid % 2:
            raise ValueError(
                f"masking.image_policy = 'grid' takes windows of 2 x 2 patches, and there are {self.model.grid} a "
                "side; change model.image (or resolution) or model.patch, or use another policy"
            )
        batch, compact = self.train.global_batch, self.shards.compact
        if compact and compact.image_size < self.model.image:
            raise ValueError(
                f"shards.compact.image_size = {compact.image_size} has fewer pixels than model.image = "
                f"{self.model.image}, which it is read for; allowed: {self.model.image} or more, or null for "
                "shards.compact"
            )
        if unknown := self.train.source_weights.keys() - self.source.named.keys():
            raise ValueError(
                f"train.source_weights: no source '{min(unknown)}'; source.several has "
                f"{', '.join(filter(None, self.source.named)) or 'no names'}"
            )
        if self.source.kind == "world":
            self._must_last(self.train.total_epochs * self.train.pairs(self.world.images))
        if self.source.kind == "world" and batch > self.world.images:
            raise ValueError(
                f"train.batch x train.batch_scale = {batch} is larger than the data; allowed: 1 to "
                f"{self.world.images}, the world.images"
            )
        return self

    def _must_last(self, samples: float) -> None:
        """Raise ValueError where at most so many samples make no step, or none after the warm-up."""
        if samples < self.train.global_batch:
            raise ValueError(
                f"train.epochs x train.epochs_scale = {self.train.total_epochs:g} over train.data_share are "
                f"{samples:.0f} samples at most, less than one batch of {self.train.global_batch}; use more"
            )
        if self.train.warmup >= samples:
            raise ValueError(
                f"train.warmup_samples x train.warmup_scale = {self.train.warmup:,} are not before the end of the "
                f"schedule, {samples:,.0f} samples at most: the peak learning rate is never reached; use fewer"
            )

    @model_validator(mode="after")
    def objectives_are_possible(self) -> Self:
        for one in self.objectives.values():
            one.check(self)
        if not self.objectives:
            keys = ", ".join(f"{name}.{key}" for name in NAMES for key in type(getattr(self, name)).weights)
            raise ValueError(f"no loss: give one of these a value above 0: {keys}")
        whole = [name for name, one in self.objectives.items() if one.reads_patches]
        if self.form.vision.merged and whole:
            raise ValueError(
                f"form.vision.merged = {self.form.vision.merged:g} leaves no patch as it was, and {whole[0]} reads "
                "patches: set it to 0.0, or leave that objective out"
            )
        if self.form.vision.pooling == "map" and not self.trains_pooling:
            raise ValueError("form.vision.pooling = 'map' has nothing that would train it: use 'mean' or 'class'")
        self.masking.check_views(self)
        if self.masking.text and not self.aligned:
            raise ValueError("masking.text has no text tower to act on: set it to 0, or contrastive.weight above 0")
        return self

    @model_validator(mode="after")
    def additions_are_possible(self) -> Self:
        if self.train.lora and not self.start:
            raise ValueError("train.lora adds to trained weights: let start name them, or set it to null")
        if self.train.lora and self.masking.is_attentive:
            raise ValueError(
                "masking.image_policy = 'attentive' uses an average of all weights, and train.lora trains "
                "additions to them: use another policy, or set train.lora to null"
            )
        return self

    @model_validator(mode="after")
    def towers_are_possible(self) -> Self:
        self.image_tower.check(self)
        self.text_tower.check(self)
        if self.curation:
            self.curation.check(self)
        return self

    @model_validator(mode="after")
    def captions_are_possible(self) -> Self:
        self.form.text.check(self.captions, self.masking)
        self.masking.check_words(self.captions)
        if self.source.kind == "world" and (fault := self.captions.untranslated(self.source)):
            raise ValueError(fault)
        if self.model.tokens <= self.captions.start + self.captions.end:
            raise ValueError(
                f"model.tokens = {self.model.tokens} leaves no token position for words beside captions' own tokens"
            )
        return self
