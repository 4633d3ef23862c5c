"""Describe what an objective trains beside the towers, so that the model needs to know no objective."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Head:
    """Hold an objective's own module, and say when the model's forward calls it.

    Attributes:
        module: called with (towers, batch, seed), where `towers` is a flip.model.two_towers.Forward; it returns named
            outputs [batch, ...].
        reads: the batch types (flip.data.batch_types) that it is called for.
        over_global_batch: whether losses over the global batch read its outputs.
        reads_patches, reads_tokens: whether it reads the encoded patches, or tokens, of the towers' forward.
    """

    module: nn.Module
    reads: frozenset[str]
    over_global_batch: bool
    reads_patches: bool
    reads_tokens: bool
