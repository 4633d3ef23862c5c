"""The text tower: a non-autoregressive transformer with learned positions (FLIP, section 3).

The released code attends to padding and reads its feature from the first position; the paper says neither. Here
padding is never seen, and the feature is the mean over the caption's words.
"""

import torch
from torch import Tensor, nn

from flip.model.transformer import Transformer
from flip.schema import Model

PAD = -1  # no tokenizer has this id, while 0 is a word in CLIP's


class TextTower(nn.Module):
    def __init__(self, model: Model, vocabulary: int):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, model.text.width)
        self.positions = nn.Embedding(model.tokens, model.text.width)
        self.transformer = Transformer(model.text)

    def forward(self, ids: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Mean over words [batch, width] of token ids [batch, slots] that end in PAD; zero where no word is kept.

        `ids_keep` [batch, kept], ascending, names the slots that are not masked.
        """
        slots = torch.arange(ids.shape[1], device=ids.device).expand_as(ids) if ids_keep is None else ids_keep
        ids = ids.gather(1, slots)
        valid = ids != PAD
        words = valid.sum(dim=1)
        # Padding comes last, so the longest caption bounds what attention has to look at.
        valid = valid[:, : max(int(words.max()), 1)]
        ids, slots = (x[:, : valid.shape[1]][valid] for x in (ids, slots))
        x = self.transformer(self.embed(ids) + self.positions(slots), valid)
        row = torch.arange(len(words), device=ids.device).repeat_interleave(words)
        total = x.new_zeros(len(words), x.shape[1]).index_add(0, row, x)
        return total / words.clamp(min=1)[:, None]
