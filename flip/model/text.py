"""Build the text tower: a transformer with learned positions, bidirectional as FLIP's (section 3), or causal as CLIP's.

SigLIP's is bidirectional, too. FLIP's released code attends to padding and reads its feature from the first position;
the paper says neither. Here padding is never attended to, and the feature is the mean over the caption's tokens, or the
state of its last one: the end token, as in CLIP; or of its first: the start token, as in BERT and FLAVA. SigLIP's
padding is end tokens, which are attended to; the tokenizer puts them there (captions.fill).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Model, TextForm
from flip.data.batch_types import PAD
from flip.model.embedding import embedding
from flip.model.packing import PackedBatch
from flip.model.transformer import Transformer


def mean_state(x: Tensor, packing: PackedBatch) -> Tensor:
    """Average each caption's states: packed [tokens, width] -> [batch, width], zero where there is no token."""
    total = x.new_zeros(len(packing.valid), x.shape[1]).index_add(0, packing.indices // packing.slots, x)
    return total / packing.lengths.clamp(min=1)[:, None]


def select_state(x: Tensor, packing: PackedBatch, slot: Tensor) -> Tensor:
    """Select each caption's state in slot `slot`, int64 [batch]: packed [tokens, width] -> [batch, width], zero where
    the caption is empty."""
    return F.pad(x, (0, 0, 0, 1))[torch.where(packing.lengths > 0, packing.token(slot), len(x))]


# The slot whose state is a caption's vector, where it is one's: for captions of some length each.
SLOTS = {"mean": None, "last": lambda lengths: lengths - 1, "first": torch.zeros_like}


class TextEncoder(nn.Module):
    """Encode captions of token ids, packed."""

    def __init__(self, model: Model, form: TextForm, vocabulary: int):
        super().__init__()
        self.slot = SLOTS[form.pooling]
        self.embed = embedding(vocabulary, form.entry(model.text.width), model.text.width)
        self.positions = nn.Embedding(model.tokens, model.text.width)
        self.embedding_norm = nn.LayerNorm(model.text.width, eps=form.norm_epsilon) if form.embedding_norm else None
        self.transformer = Transformer(model.text, form, form.causal)

    def encode(
        self, ids: Tensor, ids_keep: Tensor | None = None, lengths: np.ndarray | None = None
    ) -> tuple[Tensor, PackedBatch]:
        """Encode ids, int64 [batch, slots] that end in PAD, into packed states [tokens, width], caption by caption, and
        say where each belongs.

        `ids_keep`, int64 [batch, kept], ascending, names the slots that are not masked; None: all. `lengths`, int64
        [batch], says how many tokens these have, where it is known.
        """
        x, packing = self.tokens(ids, ids_keep, lengths)
        return self.transformer(x, packing), packing

    def forward(self, ids: Tensor, ids_keep: Tensor | None = None, lengths: np.ndarray | None = None) -> Tensor:
        """Encode each caption, as for `encode`, into one vector [batch, width], at less cost where tokens are not read;
        zero where no token is kept."""
        x, packing = self.tokens(ids, ids_keep, lengths)
        if self.slot is None or not packing.min_length:
            return self.pool(self.transformer(x, packing), packing)
        return self.transformer(x, packing, self.slot(packing.lengths))

    def pool(self, states: Tensor, packing: PackedBatch) -> Tensor:
        """Pool packed states [tokens, width] into one vector per caption [batch, width]; zero where it has no token."""
        if self.slot is None:
            return mean_state(states, packing)
        return select_state(states, packing, self.slot(packing.lengths))

    def pre_norm_states(
        self, ids: Tensor, masked: Tensor, mask: Tensor | None, lengths: np.ndarray | None = None
    ) -> tuple[Tensor, PackedBatch]:
        """Encode ids, as for `encode`, into packed states before the last LayerNorm [tokens, width], and say where each
        belongs.

        Tokens that are `masked`, bool [batch, slots], are replaced by `mask` [width] and keep their positions.
        """
        x, packing = self.tokens(ids, None, lengths, masked, mask)
        return self.transformer.pre_norm_states(x, packing), packing

    def tokens(
        self,
        ids: Tensor,
        ids_keep: Tensor | None,
        lengths: np.ndarray | None,
        masked: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, PackedBatch]:
        """Embed the input of the blocks, packed [tokens, width], and say where each token belongs; arguments as of
        `encode` and `pre_norm_states`."""
        slots = torch.arange(ids.shape[1], device=ids.device).expand_as(ids) if ids_keep is None else ids_keep
        ids = ids.gather(1, slots)
        packing = PackedBatch.from_mask(ids != PAD, lengths)
        x = self.embed(packing.pack(ids))
        if masked is not None and mask is not None:
            x = torch.where(packing.pack(masked)[:, None], mask.to(x.dtype), x)
        x = x + self.positions(packing.pack(slots))
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return x, packing
