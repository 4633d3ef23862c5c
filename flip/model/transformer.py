"""The only transformer: pre-LayerNorm blocks, used by both towers and the decoder.

It works on dense sequences [batch, slots, width] and, where captions differ in length, on packed ones: the real
tokens of all captions one after another [tokens, width], with a layout saying where each belongs. Everything but the
attention itself then costs nothing for padding.
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.utils.checkpoint import checkpoint

from flip.config.schema import Blocks, Tower
from flip.model.embedding import Bottleneck

# Tokens that go through the blocks together on a CPU: few enough for what a block makes of them to stay in its cache,
# enough for matrix products to run at full speed (python -m benchmarks.steps).
PART = 1024
# No block draws random numbers, so there is no generator's state to keep.
recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def has_values(x: Tensor) -> bool:
    """Tell whether a tensor is more than its shape, which is all that flip.plan counts with."""
    return not (x.is_meta or isinstance(x, FakeTensor))


class Layout(NamedTuple):
    """Where packed tokens belong: `valid`, bool [batch, slots]; `lengths`, int64 [batch], of its rows; `places`, int64
    [tokens], of the slots of all rows; and the number of tokens in the row that has the fewest.

    It is made once for all that reads a batch's captions, and the device is waited for once, for three numbers: where a
    mask is the index, each use looks again for what it holds, and waits.
    """

    valid: Tensor
    lengths: Tensor
    places: Tensor
    fewest: int

    @classmethod
    def of(cls, valid: Tensor) -> "Layout":
        """For rows whose tokens come first, bool [batch, slots]: as many slots as the longest row needs."""
        lengths = valid.sum(dim=1)
        if not has_values(valid):  # every slot counts as a token
            return cls._of(valid, lengths, valid.numel(), valid.shape[1])
        tokens, longest, fewest = torch.stack([lengths.sum(), lengths.max(), lengths.min()]).tolist()
        return cls._of(valid[:, : max(longest, 1)], lengths, tokens, fewest)

    @classmethod
    def _of(cls, valid: Tensor, lengths: Tensor, tokens: int, fewest: int) -> "Layout":
        return cls(valid, lengths, valid.flatten().nonzero_static(size=tokens)[:, 0], fewest)

    @property
    def slots(self) -> int:
        return self.valid.shape[1]

    def token(self, at: Tensor) -> Tensor:
        """[batch]: which of the tokens is in slot `at` [batch] of each row."""
        return self.lengths.cumsum(0) - self.lengths + at

    def after(self, count: int) -> "Layout":
        """Of rows that begin with so many tokens more, before these."""
        valid = torch.cat([self.valid.new_ones(len(self.valid), count), self.valid], dim=1)
        return Layout._of(valid, self.lengths + count, len(self.places) + len(valid) * count, self.fewest + count)

    def pack(self, x: Tensor) -> Tensor:
        """[batch, slots or more, ...] -> [tokens, ...]: the valid slots, row by row."""
        return x[:, : self.slots].flatten(0, 1).index_select(0, self.places)

    def unpack(self, x: Tensor) -> Tensor:
        """[tokens, width] -> [batch, slots, width], zero where nothing is."""
        slots = x.new_zeros(self.valid.numel(), x.shape[-1])
        # For its gradient, `index_copy` would keep x, of which the place is all that is needed.
        return slots.index_put((self.places,), x).unflatten(0, self.valid.shape)


def chosen(x: Tensor, layout: Layout | None, at: Tensor) -> Tensor:
    """[batch, width]: of each row, the token in slot `at` [batch]."""
    if layout is None:
        return x[torch.arange(len(x), device=x.device), at]
    return x[layout.token(at)]


def parts(x: Tensor, layout: Layout | None, at: Tensor | None, tokens: int) -> list[tuple]:
    """The rows of a batch in parts of about so many tokens: (x, layout, at) of each."""
    rows = len(x if layout is None else layout.valid)
    count = min(round(x.shape[:-1].numel() / tokens), rows)
    if count <= 1:
        return [(x, layout, at)]
    places = [None] * count if at is None else at.tensor_split(count)
    if layout is None:
        return list(zip(x.tensor_split(count), [None] * count, places, strict=True))
    layouts = [Layout.of(valid) for valid in layout.valid.tensor_split(count)]
    return list(zip(x.split([len(one.places) for one in layouts]), layouts, places, strict=True))


class QuickGELU(nn.Module):
    """The approximation that OpenAI's CLIP was trained with (Hendrycks and Gimpel, 2016, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.702 * x).sigmoid()


ACTIVATIONS = {"gelu": nn.GELU, "gelu_tanh": partial(nn.GELU, approximate="tanh"), "quick_gelu": QuickGELU}


def mlp(width: int, activation: str) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), ACTIVATIONS[activation](), nn.Linear(4 * width, width))


class Attention(nn.Module):
    """Multi-head self-attention; padding is never attended to, and later tokens are not where it is `causal`."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, layout: Layout | None, at: Tensor | None = None) -> Tensor:
        if at is not None:
            return self.of_one(x, layout, at)
        qkv = self.qkv(x)
        if layout is not None:
            qkv = layout.unpack(qkv)
        # Of each, [batch, heads, slots, width / heads]; taken apart where their gradients need one copy, no second.
        q, k, v = (part.transpose(1, 2) for part in qkv.unflatten(-1, (3, self.heads, -1)).unbind(2))
        # Padding comes last, so what looks back alone does not see it.
        seen = None if layout is None or self.causal else layout.valid[:, None, None, :]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal).transpose(1, 2).flatten(2)
        return self.out(x if layout is None else layout.pack(x))

    def of_one(self, x: Tensor, layout: Layout | None, at: Tensor) -> Tensor:
        """[batch, width]: what each row's token in slot `at` [batch] sees; no other has a query."""
        (query, others), (shift, shifts) = (
            part.tensor_split([x.shape[-1]]) for part in (self.qkv.weight, self.qkv.bias)
        )
        q = F.linear(chosen(x, layout, at), query, shift).unflatten(-1, (self.heads, 1, -1))
        kv = F.linear(x, others, shifts)
        if layout is not None:
            kv = layout.unpack(kv)
        k, v = kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = None if layout is None else layout.valid
        if self.causal:
            seen = torch.arange(k.shape[2], device=x.device) <= at[:, None]
        seen = None if seen is None else seen[:, None, None, :]
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=seen).flatten(1))


class Block(nn.Module):
    def __init__(self, tower: Tower, form: Blocks, causal: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.attention = Attention(tower.width, tower.heads, causal)
        self.norm2 = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.mlp = mlp(tower.width, form.activation)

    def forward(self, x: Tensor, layout: Layout | None, at: Tensor | None = None) -> Tensor:
        """All tokens; or of each row the one in slot `at` [batch], all that is read after the last block."""
        before = x if at is None else chosen(x, layout, at)
        x = before + self.attention(self.norm1(x), layout, at)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Blocks and a final LayerNorm; shapes stay as they come.

    With `recompute`, training keeps only what goes into each block, and computes the rest again on the way back. On a
    CPU a large batch goes through all blocks part by part, forth and back, unless it has to be `whole`.
    """

    def __init__(self, tower: Tower, form: Blocks, causal: bool = False):
        super().__init__()
        self.blocks = nn.ModuleList(Block(tower, form, causal) for _ in range(tower.layers))
        self.norm = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.recompute = self.whole = False

    def forward(self, x: Tensor, layout: Layout | None = None, at: Tensor | None = None) -> Tensor:
        """All tokens; or of each row the one in slot `at` [batch]: [batch, width]. Then the last block does no more."""
        return self.norm(self.hidden(x, layout, at))

    def hidden(self, x: Tensor, layout: Layout | None = None, at: Tensor | None = None) -> Tensor:
        """Before the final LayerNorm."""
        if self.whole or x.device.type != "cpu":
            return self._through(x, layout, at)
        done = [self._through(*part) for part in parts(x, layout, at, PART)]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _through(self, x: Tensor, layout: Layout | None, at: Tensor | None) -> Tensor:
        recompute = self.recompute and torch.is_grad_enabled()
        *_, last = self.blocks
        for block in self.blocks:
            inputs = (x, layout, at if block is last else None)
            x = recomputed(block, *inputs) if recompute else block(*inputs)
        return x


def initialize(module: nn.Module) -> None:
    """Xavier-uniform matrices (q, k, v as one), zero biases, N(0, 0.02) embeddings; to be used with `apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, Bottleneck):
        module.initialize(std=0.02)
