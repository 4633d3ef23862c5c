"""Describe the towers of a batch to the modules of objectives, which are called with them."""

from typing import Protocol

import numpy as np
from torch import Tensor

from flip.model.masking import MaskOrder
from flip.model.packing import PackedBatch
from flip.model.text import TextEncoder
from flip.model.vision import VisionEncoder


class Towers(Protocol):
    """Hold the encoders that an objective reads, and what the towers make of the batch (flip.model.two_towers.Forward).

    order: the masks of the image tower.
    encoded: the encoded tokens of kept patches [batch, kept, width].
    text_states: the encoded tokens that are kept, packed [tokens, width], and where each belongs.
    """

    vision: VisionEncoder
    text: TextEncoder
    order: MaskOrder
    encoded: Tensor
    text_states: tuple[Tensor, PackedBatch]

    def encode_text(self, ids: Tensor, lengths: np.ndarray) -> Tensor:
        """Compute text features [captions, embedding] of unit length of other captions, ids int64 [captions, slots]."""
        ...
