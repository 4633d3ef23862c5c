"""Corrupt training pairs on purpose, to measure how robust a loss is (SigLIP, Zhai et al. 2023, Figure 7).

An image becomes uniform noise, the tokens of a caption random ones, or captions are exchanged within a global batch.
What happens to a pair follows from the seed and its position in the training order alone, as masks do
(flip.model.masking), so that a resumed run, or another number of processes, corrupts the same pairs in the same way.
Here a caption keeps its length, and the captions that are exchanged are permuted in one random cycle, so that each
image gets another's, unless it is the only one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flip.config.schema import Noise
from flip.data.batch_types import PAD
from flip.data.tokenizer import CaptionTokenizer
from flip.rng import random_bits, uniform


class Corruption:
    """Corrupt the pairs of a run with global batches of `batch` pairs, as `noise` says."""

    def __init__(self, noise: Noise, seed: int, batch: int, tokenizer: CaptionTokenizer):
        self.noise, self.seed, self.batch = noise, seed, batch
        self.vocabulary = tokenizer.vocabulary
        self.kept = torch.tensor([PAD, *tokenizer.before, *tokenizer.after])  # no words

    def _chosen(self, kind: str, positions: Tensor) -> Tensor:
        """Draw which pairs this kind of noise falls on: bool [batch]."""
        return uniform(self.seed, f"noise.{kind}", positions, 1)[:, 0] < getattr(self.noise, kind)

    def _exchange(self, positions: Tensor) -> Tensor:
        """Draw whose caption each pair of a global batch gets, for its positions [batch]: int64 [batch]."""
        rows = self._chosen("pairs", positions).nonzero()[:, 0]
        rows = rows[random_bits(self.seed, "noise.order", positions[rows], 1)[:, 0].argsort()]
        found = positions.clone()
        found[rows] = positions[rows.roll(1)]
        return found

    def sources(self, start: int, size: int) -> Sequence[int]:
        """Return the positions in the training order whose captions pairs start .. start + size - 1 get."""
        if not self.noise.pairs:
            return range(start, start + size)
        first, end = start // self.batch, -(-(start + size) // self.batch)
        batches = torch.arange(first * self.batch, end * self.batch).split(self.batch)
        found = torch.cat([self._exchange(positions) for positions in batches])
        return found[start - first * self.batch :][:size].tolist()

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Corrupt, in place, images uint8 [batch, side, side, 3] and ids int64 [batch, slots] of samples at
        `positions`."""
        positions = batch["positions"]
        for kind, name, draw in (("images", "images", self._pixels), ("texts", "ids", self._words)):
            if getattr(self.noise, kind) and name in batch:
                rows = self._chosen(kind, positions).nonzero()[:, 0]
                batch[name][rows] = draw(batch[name][rows], positions[rows])
        return batch

    def _pixels(self, images: Tensor, positions: Tensor) -> Tensor:
        bits = random_bits(self.seed, "noise.pixels", positions, images.shape[1:].numel())
        return (bits & 255).to(torch.uint8).reshape(images.shape)

    def _words(self, ids: Tensor, positions: Tensor) -> Tensor:
        tokens = random_bits(self.seed, "noise.tokens", positions, ids.shape[1]) % self.vocabulary
        return torch.where(torch.isin(ids, self.kept), ids, tokens)
