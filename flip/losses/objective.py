"""Define what an objective is: losses with their weights, and whatever else these need.

An objective is a file flip/losses/NAME.py with one subclass of `Objective`, and a section NAME of the parameters
(flip.config.objectives). It is built where a weight of its section is above 0, and nowhere else: neither its
file nor its parameters count for a variant that leaves it out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAIRS, Batch
from flip.data.views import ViewSet
from flip.losses.tiling import SINGLE_PROCESS, BatchGroup

if TYPE_CHECKING:
    from flip.model.two_towers import TwoTowers


class Scope(Enum):
    """Say how the loss of a global batch follows from its parts.

    SAMPLE: as the mean of the parts' losses, weighted by their samples.
    GLOBAL_BATCH: only from the features of all samples together. A process gives its part of the sum.
    """

    SAMPLE = "sample"
    GLOBAL_BATCH = "global batch"


@dataclass(frozen=True)
class Setting:
    """Hold what a run's objectives may ask for: its parameters, seed, process group, device and folder of data."""

    params: Params
    seed: int = 0
    group: BatchGroup = SINGLE_PROCESS
    data: Path | None = None  # None: nothing has been made, as where work is counted

    @property
    def device(self) -> str:
        """Name the device that the process computes on."""
        return self.group.device


class Objective:
    """Turn a batch and the model's outputs into named, weighted losses; the defaults are those of the simplest one."""

    scope: ClassVar[Scope] = Scope.SAMPLE
    gathers_images: ClassVar[bool] = False  # whether it reads the image features of all processes
    reads_patches: ClassVar[bool] = False  # whether its module reads the encoded patches of the towers' forward

    def __init__(self, setting: Setting):
        """Prepare for a run."""

    @classmethod
    def name(cls) -> str:
        """Return the name of its section."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def reads(cls, params: Params) -> frozenset[str]:
        """Name the batch types (flip.data.batch_types) that it has a loss for."""
        return frozenset({PAIRS})

    @classmethod
    def reads_tokens(cls, params: Params) -> bool:
        """Tell whether its module reads the encoded tokens of the towers' forward."""
        return False

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module | None:
        """Build what is trained for it beside the towers, if anything.

        It is called with (towers, batch, seed), where `towers` is a flip.model.two_towers.Forward, within the model's
        forward, on the batch types that are read; it returns named outputs [batch, ...].
        """
        return None

    @classmethod
    def views(cls, params: Params) -> ViewSet | None:
        """Say which further views of each image it reads, if any: batch["views"]."""
        return None

    @classmethod
    def transforms(cls, params: Params, seed: int, captions: Any) -> list[Callable[[Batch], Batch]]:
        """List what the loader does to each batch for it; `captions` is a flip.data.loader.CaptionReader."""
        return []

    @classmethod
    def example(cls, params: Params, batch: Batch) -> Batch:
        """Add to a batch without values what `transforms` would add."""
        return batch

    def prepare(self, batch: Batch) -> Batch:
        """Add to a process's batch what is drawn in main memory."""
        return batch

    def encode(self, batch: Batch) -> Batch:
        """Add to a batch what is computed on the device, without gradients, before the step."""
        return batch

    def begin(self, model: "TwoTowers") -> None:
        """Prepare the model before the first step in which it has a loss."""

    def follow(self, model: "TwoTowers", spoilt: Tensor) -> None:
        """Change what its module keeps beside weights after a step; `spoilt`, a scalar, is 1 where the step was not
        finite and must change nothing, else 0."""

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute losses by name, each a number with its weight applied, from a batch and the model's outputs."""
        raise NotImplementedError
