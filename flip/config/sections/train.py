"""Define how a variant is trained: batch, schedule, optimizer, checkpoints, guards."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.types import Batch, Count, Minutes, Name, Natural, Part, Positive, Rate, Section, Tiny

# What is said where that is missing.
FLOAT8_NEEDS = "train.precision: float8 needs torchao; pip install 'flip[gpu]', or set bfloat16"


class Lora(Section):
    """Describe low-rank additions to the matrices of a model that is tuned (LoRA, section 4.1)."""

    rank: Natural = Field(le=4096)
    alpha: Positive = Field(description="scale: the low-rank product is multiplied by alpha / rank")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Train(Section):
    """Describe AdamW with a cosine schedule counted in samples (FLIP, Table 10)."""

    batch: Batch = Field(description="pairs per step of the unmasked baseline")
    batch_scale: Natural = Field(description="this variant's batch relative to the baseline's", le=10**4)
    micro_batch: Batch | None = Field(
        description="pairs whose activations are in memory at a time, at the cost of one more forward pass; null: the "
        "whole batch"
    )
    data_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="share of the pairs to train on, from the first shards"
    )
    source_weights: dict[Name, Positive] = Field(
        description="weight of each source (source.several): how often its pairs are seen, relative to sources not "
        "named here, which have weight 1"
    )
    epochs: Positive = Field(description="passes over the training pairs")
    epochs_scale: Positive = Field(description="this variant's epochs relative to the baseline's")
    equal_time: Name | None = Field(
        description="variant whose training time this one matches: `snakemake sweep` times the steps of both and then "
        "derives epochs_scale and warmup_scale; until then the given values are used"
    )
    base_lr: Rate = Field(description="learning rate at a batch of 256; scales linearly")
    warmup_samples: int = Field(description="warm-up of the baseline, pairs", ge=0, le=10**12)
    warmup_scale: Positive = Field(description="this variant's warm-up relative to the baseline's")
    lora: Lora | None = Field(
        None,
        description="train low-rank additions to the blocks' matrices alone, of a variant with a start; null: all",
    )
    weight_decay: float = Field(ge=0, le=10)
    betas: tuple[Part, Part]
    epsilon: Tiny
    precision: Literal["float32", "tf32", "bfloat16", "float8"] = Field(
        description="precision of matrix products; tf32: float32 inputs rounded to 11 bits, on NVIDIA GPUs since the "
        "A100; float8: in the towers' blocks, with bfloat16 elsewhere, needs torchao"
    )
    deterministic: bool = Field(
        description="use deterministic algorithms on GPUs, so that a resumed run ends with the same bits; slower; "
        "operations without a deterministic version raise an error; CPUs are always deterministic"
    )
    compile: bool = Field(description="compile the towers' blocks with torch.compile; faster on GPUs")
    checkpoint_activations: bool = Field(
        description="recompute activations in the backward pass to save memory; same results"
    )
    shuffle_shards: Natural = Field(description="number of shards whose samples are shuffled together", le=10**6)
    workers: int = Field(description="threads that prepare batches in advance; 0: none", ge=0, le=10_000)
    decoder: Literal["cpu", "gpu"] = Field(
        description="image decoder; gpu: nvJPEG, needs torchcodec, pixels differ by rounding"
    )
    shard_weights: bool = Field(
        description="split weights, gradients and optimizer state over the processes (FSDP2) instead of copying (DDP)"
    )
    checkpoint_minutes: Minutes = Field(description="wall-clock minutes between checkpoints")
    checkpoint_samples: Count | None = Field(description="samples between checkpoints, instead of minutes")
    keep_checkpoints: Natural = Field(description="number of newest checkpoints to keep during training", le=10**6)
    skip_nonfinite: int = Field(
        description="number of steps with a non-finite loss or gradient that are skipped; the next one ends the run",
        ge=0,
        le=10**6,
    )
    stall_minutes: Minutes = Field(description="minutes without a finished step after which a run exits")

    @model_validator(mode="after")
    def micro_batches_tile(self) -> Self:
        batch, size = self.global_batch, self.micro_batch
        if size and batch % size:
            nearest = max(n for n in range(1, min(size, batch) + 1) if batch % n == 0)
            raise ValueError(
                f"micro_batch = {size} does not divide batch x batch_scale = {batch}; allowed: null, or a divisor of "
                f"{batch}, such as {nearest}"
            )
        return self

    @model_validator(mode="after")
    def additions_are_possible(self) -> Self:
        if self.lora and self.shard_weights:
            raise ValueError("lora has next to no gradients to split over processes: set shard_weights to false")
        if self.lora and self.precision == "float8":
            raise ValueError("lora adds to weights before they are multiplied: set precision to bfloat16 or float32")
        return self

    @property
    def global_batch(self) -> int:
        return self.batch * self.batch_scale

    @property
    def autocast(self) -> str:
        """Return the data type of activations; TF32 and float8 products convert them."""
        return "float32" if self.precision in ("float32", "tf32") else "bfloat16"

    @property
    def products(self) -> str:
        """Return the precision whose rate of products is planned with; float8's is that of bfloat16 at least."""
        return "bfloat16" if self.precision == "float8" else self.precision

    @property
    def peak_lr(self) -> float:
        return self.base_lr * self.global_batch / 256

    @property
    def warmup(self) -> int:
        """Return the number of pairs until the peak learning rate."""
        return round(self.warmup_samples * self.warmup_scale)

    @property
    def total_epochs(self) -> float:
        return self.epochs * self.epochs_scale

    def pairs(self, samples: int) -> int:
        """Return how many of `samples` pairs are trained on, at least one."""
        return max(round(self.data_share * samples), 1)

    def steps(self, samples: int) -> int:
        """Return the steps of the whole run on data of `samples` pairs: whole batches only, at least one."""
        return max(int(self.total_epochs * self.pairs(samples)) // self.global_batch, 1)
