"""The text tower: a transformer with learned positions, non-autoregressive as FLIP's (section 3) and SigLIP's, or
causal as CLIP's.

FLIP's released code attends to padding and reads its feature from the first position; the paper says neither. Here
padding is never seen, and the feature is the mean over the caption's tokens, or the state of its last one: the end
token, as in CLIP. SigLIP's padding is end tokens, which are seen; the tokenizer puts them there (captions.fill).
"""

import torch
from torch import Tensor, nn

from flip.model.transformer import Transformer
from flip.schema import Model, TextForm

PAD = -1  # no tokenizer has this id, while 0 is a word in CLIP's


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


class TextTower(nn.Module):
    def __init__(self, model: Model, form: TextForm, vocabulary: int):
        super().__init__()
        self.pool = {"mean": mean, "last": last}[form.pooling]
        self.embed = nn.Embedding(vocabulary, model.text.width)
        self.positions = nn.Embedding(model.tokens, model.text.width)
        self.transformer = Transformer(model.text, form, form.causal)

    def encode(self, ids: Tensor, ids_keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Packed states [tokens, width] of ids [batch, slots] that end in PAD, caption by caption, and the slots
        [batch, longest caption] that they take, from each caption's beginning.

        `ids_keep` [batch, kept], ascending, names the slots that are not masked.
        """
        slots = torch.arange(ids.shape[1], device=ids.device).expand_as(ids) if ids_keep is None else ids_keep
        ids = ids.gather(1, slots)
        valid = ids != PAD
        words = valid.sum(dim=1)
        # Padding comes last, so the longest caption bounds what attention has to look at.
        valid = valid[:, : max(int(words.max()), 1)]
        ids, slots = (x[:, : valid.shape[1]][valid] for x in (ids, slots))
        return self.transformer(self.embed(ids) + self.positions(slots), valid), valid

    def forward(self, ids: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """One vector per caption [batch, width], as for `encode`; zero where no token is kept."""
        x, valid = self.encode(ids, ids_keep)
        return self.pool(x, valid.sum(dim=1))
