"""Decode captions from an image's patches (CoCa, Yu et al. 2022; CapPa, Tschannen et al. 2023).

CoCa's decoder goes on from the states of the causal text tower. That of CapPa, and of LocCa and SigLIP 2 after it, has
embeddings of its own, so that some captions can be predicted in parallel: from the image alone, with every token
replaced by one learned vector. Padding is neither decoded nor predicted.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD, Batch
from flip.model.decoder import CrossAttention, TextDecoder
from flip.model.packing import PackedBatch, true_counts
from flip.model.towers import Towers
from flip.model.transformer import full_precision
from flip.rng import uniform


def predicted(params: Params, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens that are predicted, int64 [batch, slots], and where they are, bool [batch, slots].

    They are all of a caption of ids [batch, slots]; after a text tower all but the first, which has no state before it.
    Of end tokens that fill a caption up, the first counts.
    """
    valid = ids != PAD
    if params.captions.fill:
        filled = (ids == ids[:, -1:]) & (ids.roll(1, dims=1) == ids)
        valid &= ~filled | (torch.arange(ids.shape[1], device=ids.device) == 0)
    first = int(params.captioning.input == "text_tower")
    return ids[:, first:], valid[:, first:]


def count_predicted(params: Params, batch: Batch) -> Batch:
    """Add how many tokens of each caption are predicted, `predicted_lengths`, int64 [batch]; a batch that has it stays
    as it is."""
    if "predicted_lengths" in batch:
        return batch
    return batch | {"predicted_lengths": true_counts(predicted(params, batch["ids"])[1])}


class PatchPooling(nn.Module):
    """Pool patches by multi-head attention into as many states as there are learned queries (CoCa)."""

    def __init__(self, width: int, heads: int, queries: int, epsilon: float):
        super().__init__()
        self.queries = nn.Parameter(width**-0.5 * torch.randn(queries, width))
        self.attention = CrossAttention(width, heads)
        self.norm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, patches: Tensor) -> Tensor:
        """Pool [batch, patches, width] into [batch, queries, width]."""
        return self.norm(self.attention(self.queries.expand(len(patches), -1, -1), patches))


class TokenInput(nn.Module):
    """Embed what the decoder reads where it does not go on from the text tower: the token before each, after a learned
    start; or for some captions, nothing but positions."""

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        width = params.model.text.width
        self.parallel = params.captioning.parallel
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(params.model.tokens, width)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.mask = nn.Parameter(0.02 * torch.randn(width)) if self.parallel else None

    def forward(self, batch: Batch, packing: PackedBatch, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return the input of the blocks, packed [tokens, width], and which tokens each one attends to, bool [batch, 1,
        slots, slots]; None: those up to itself."""
        rows, slots = packing.indices // packing.slots, packing.indices % packing.slots
        x = self.embed(packing.pack(F.pad(batch["ids"], (1, 0))))
        x = torch.where((slots == 0)[:, None], self.start.to(x.dtype), x)
        mask = None
        if self.mask is not None:
            blind = uniform(seed, "captioning", batch["positions"], 1)[:, 0] < self.parallel
            x = torch.where(blind[rows, None], self.mask.to(x.dtype), x)
            causal = torch.ones(packing.slots, packing.slots, dtype=torch.bool, device=x.device).tril()
            mask = (causal | (blind[:, None, None] & packing.valid[:, None]))[:, None]
        return x + self.positions(slots), mask


class CaptionDecoder(nn.Module):
    """Predict the tokens of each caption from the image, and from the tokens before."""

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        section, model, form = params.captioning, params.model, params.form
        self.params = params
        self.input = TokenInput(params, vocabulary) if section.input == "tokens" else None
        self.pooling = None
        if section.queries:
            heads, epsilon = model.vision.heads, form.vision.norm_epsilon
            self.pooling = PatchPooling(model.vision.width, heads, section.queries, epsilon)
        self.decoder = TextDecoder(model.text, section.layers, form.text, model.vision.width)
        self.predict = nn.Linear(model.text.width, vocabulary)

    def forward(self, towers: Towers, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Compute `captions`, logits [predicted tokens, vocabulary], caption by caption (`predicted`)."""
        batch = count_predicted(self.params, batch)
        packing = PackedBatch.from_mask(predicted(self.params, batch["ids"])[1], batch["predicted_lengths"])
        x, mask = self._input(towers, batch, packing, seed)
        patches = towers.encoded if self.pooling is None else self.pooling(towers.encoded)
        return {"captions": full_precision(self.predict(self.decoder(x, patches, packing, mask)))}

    def _input(self, towers: Towers, batch: Batch, packing: PackedBatch, seed: int) -> tuple[Tensor, Tensor | None]:
        if self.input is not None:
            return self.input(batch, packing, seed)
        states, own = towers.text_states
        return packing.pack(own.unpack(states)), None
