"""The text tower: a transformer with learned positions, non-autoregressive as FLIP's (section 3) and SigLIP's, or
causal as CLIP's.

FLIP's released code attends to padding and reads its feature from the first position; the paper says neither. Here
padding is never seen, and the feature is the mean over the caption's tokens, or the state of its last one: the end
token, as in CLIP; or of its first: the start token, as in BERT and FLAVA. SigLIP's padding is end tokens, which are
seen; the tokenizer puts them there (captions.fill).
"""

import torch
from torch import Tensor, nn

from flip.kinds import PAD
from flip.model.embedding import embedding
from flip.model.transformer import Transformer
from flip.schema import Model, TextForm


def mean(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean of each caption's states [batch, width], for packed states [tokens, width] of captions of these lengths."""
    row = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths)
    total = x.new_zeros(len(lengths), x.shape[1]).index_add(0, row, x)
    return total / lengths.clamp(min=1)[:, None]


def last(x: Tensor, lengths: Tensor) -> Tensor:
    """Each caption's last state [batch, width], for packed states [tokens, width] of captions of these lengths."""
    found = x.new_zeros(len(lengths), x.shape[1])
    some = lengths > 0
    found[some] = x[lengths.cumsum(0)[some] - 1]
    return found


def first(x: Tensor, lengths: Tensor) -> Tensor:
    """Each caption's first state [batch, width], for packed states [tokens, width] of captions of these lengths."""
    found = x.new_zeros(len(lengths), x.shape[1])
    some = lengths > 0
    found[some] = x[(lengths.cumsum(0) - lengths)[some]]
    return found


# How states become one vector; and where that is one of them, its slot, for captions of some length each.
POOLING = {
    "mean": (mean, None),
    "last": (last, lambda lengths: lengths - 1),
    "first": (first, torch.zeros_like),
}


class TextTower(nn.Module):
    def __init__(self, model: Model, form: TextForm, vocabulary: int):
        super().__init__()
        self.pool, self.slot = POOLING[form.pooling]
        self.embed = embedding(vocabulary, form.entry(model.text.width), model.text.width)
        self.positions = nn.Embedding(model.tokens, model.text.width)
        self.embedding_norm = nn.LayerNorm(model.text.width, eps=form.norm_epsilon) if form.embedding_norm else None
        self.transformer = Transformer(model.text, form, form.causal)

    def encode(self, ids: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Packed states [tokens, width] of ids [batch, slots] that end in PAD, caption by caption, and the slots
        [batch, longest caption] that they take, from each caption's beginning.

        `ids_keep` [batch, kept], ascending, names the slots that are not masked.
        """
        x, valid = self.tokens(ids, ids_keep)
        return self.transformer(x, valid), valid

    def forward(self, ids: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """One vector per caption [batch, width], as for `encode`; zero where no token is kept."""
        x, valid = self.tokens(ids, ids_keep)
        lengths = valid.sum(dim=1)
        if self.slot is None or not lengths.all():
            return self.pool(self.transformer(x, valid), lengths)
        return self.transformer(x, valid, self.slot(lengths))

    def hidden(self, ids: Tensor, masked: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Packed states before the last LayerNorm [tokens, width], and where each belongs: bool [batch, longest].

        Words that are `masked`, bool [batch, slots], became `mask` [width] and kept their positions.
        """
        x, valid = self.tokens(ids, None, masked, mask)
        return self.transformer.hidden(x, valid), valid

    def tokens(
        self, ids: Tensor, ids_keep: Tensor | None, masked: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the blocks see, packed [tokens, width], and where each token belongs: bool [batch, longest]."""
        slots = torch.arange(ids.shape[1], device=ids.device).expand_as(ids) if ids_keep is None else ids_keep
        ids = ids.gather(1, slots)
        valid = ids != PAD
        # Padding comes last, so the longest caption bounds what attention has to look at.
        valid = valid[:, : max(int(valid.sum(dim=1).max()), 1)]
        ids, slots = (x[:, : valid.shape[1]][valid] for x in (ids, slots))
        x = self.embed(ids)
        if masked is not None:
            x = torch.where(masked[:, : valid.shape[1]][valid][:, None], mask.to(x.dtype), x)
        x = x + self.positions(slots)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return x, valid
