"""Build the only transformer: pre-LayerNorm blocks, used by both towers and the decoders.

It works on dense sequences [batch, slots, width] and, where captions differ in length, on packed ones: the tokens of
all captions one after another [tokens, width], with a PackedBatch saying where each belongs. Everything but the
attention itself then costs nothing for padding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flip.config.schema import Blocks, Tower
from flip.model.embedding import Bottleneck
from flip.model.merging import Merged, merge, merged_count
from flip.model.packing import PackedBatch, select_token, split_rows

# Tokens that go through the blocks together on a CPU: few enough for what a block makes of them to stay in its cache,
# enough for matrix products to run at full speed (python -m benchmarks.steps).
PART = 1024
# No block draws random numbers, so there is no generator's state to keep.
recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def full_precision(x: Tensor) -> Tensor:
    """Convert results [...] to at least float32 for the losses: in bfloat16, logits and squared errors would keep two
    digits. float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class QuickGELU(nn.Module):
    """Compute the approximation of GELU that OpenAI's CLIP was trained with (Hendrycks and Gimpel, 2016, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
}


def mlp(width: int, activation: str) -> nn.Sequential:
    """Build the MLP of a block, [..., width] -> [..., width], with a hidden layer of 4 x width."""
    return nn.Sequential(nn.Linear(width, 4 * width), ACTIVATIONS[activation](), nn.Linear(4 * width, width))


class Attention(nn.Module):
    """Compute multi-head self-attention; padding is never attended to, and later tokens are not where it is
    `causal`."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, packing: PackedBatch | None, slot: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Compute attention as flip.model.transformer.Transformer's arguments say; `mask`, bool [batch, 1, slots,
        slots], says which tokens each one attends to, whatever `causal` is."""
        if slot is not None:
            return self.one_query(x, packing, slot)
        qkv = self.qkv(x)
        if packing is not None:
            qkv = packing.unpack(qkv)
        q, k, v = self.split_heads(qkv)
        # Padding comes last, so what looks back alone does not see it.
        seen = None if packing is None or self.causal else packing.valid[:, None, None, :]
        causal, seen = (self.causal, seen) if mask is None else (False, mask)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal).transpose(1, 2).flatten(2)
        return self.out(x if packing is None else packing.pack(x))

    def split_heads(self, qkv: Tensor) -> list[Tensor]:
        """Split [batch, slots, 3 x width] into queries, keys and values of each head, [batch, heads, slots, width /
        heads] each; taken apart where their gradients need one copy, no second."""
        return [part.transpose(1, 2) for part in qkv.unflatten(-1, (3, self.heads, -1)).unbind(2)]

    def one_query(self, x: Tensor, packing: PackedBatch | None, slot: Tensor) -> Tensor:
        """Attend from each row's token in slot `slot`, int64 [batch], alone: [batch, width]."""
        (query, others), (shift, shifts) = (
            part.tensor_split([x.shape[-1]]) for part in (self.qkv.weight, self.qkv.bias)
        )
        q = F.linear(select_token(x, packing, slot), query, shift).unflatten(-1, (self.heads, 1, -1))
        kv = F.linear(x, others, shifts)
        if packing is not None:
            kv = packing.unpack(kv)
        k, v = kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = None if packing is None else packing.valid
        if self.causal:
            seen = torch.arange(k.shape[2], device=x.device) <= slot[:, None]
        seen = None if seen is None else seen[:, None, None, :]
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=seen).flatten(1))


class Block(nn.Module):
    """Apply pre-LayerNorm attention and MLP, each with a residual connection."""

    def __init__(self, tower: Tower, form: Blocks, causal: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.attention = Attention(tower.width, tower.heads, causal)
        self.norm2 = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.mlp = mlp(tower.width, form.activation)

    def forward(self, x: Tensor, packing: PackedBatch | None, slot: Tensor | None = None) -> Tensor:
        """Compute all tokens, or of each row the one in slot `slot`, int64 [batch], where only that is read after the
        last block."""
        before = x if slot is None else select_token(x, packing, slot)
        x = before + self.attention(self.norm1(x), packing, slot)
        return x + self.mlp(self.norm2(x))

    def merge(self, x: Merged, count: int, first: int) -> Merged:
        """Compute all tokens, dense, with `count` of them merged before the MLP (flip.model.merging); the `first`
        ones stay."""
        q, k, v = self.attention.split_heads(self.attention.qkv(self.norm1(x.tokens)))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=x.bias(q.dtype)).transpose(1, 2).flatten(2)
        tokens = x.tokens + self.attention.out(mixed)
        x = merge(Merged(tokens, x.size), k.detach().mean(dim=1), count, first)
        return Merged(x.tokens + self.mlp(self.norm2(x.tokens)), x.size)

    def look(self, x: Tensor, queries: int) -> tuple[Tensor, Tensor]:
        """Compute all tokens, dense, and how much each is attended to by the first `queries` of them, [batch, slots]:
        the mean over these and over heads."""
        q, k, v = self.attention.split_heads(self.attention.qkv(self.norm1(x)))
        logits = full_precision(q[:, :, :queries] @ k.mT) * q.shape[-1] ** -0.5
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attention.out(mixed)
        return x + self.mlp(self.norm2(x)), logits.softmax(dim=-1).mean(dim=(1, 2))


class Transformer(nn.Module):
    """Apply blocks and a final LayerNorm; shapes stay as they are.

    With `recompute` (activation checkpointing), training keeps only the input of each block, and computes the rest
    again in the backward pass. On a CPU a large batch goes through all blocks in chunks of rows, forward and backward,
    unless `chunk_on_cpu` is off.
    """

    def __init__(self, tower: Tower, form: Blocks, causal: bool = False):
        super().__init__()
        blocks: Any = nn.ModuleList(Block(tower, form, causal) for _ in range(tower.layers))
        self.blocks: Sequence[Block] = blocks
        self.norm = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.recompute, self.chunk_on_cpu = False, True

    def forward(self, x: Tensor, packing: PackedBatch | None = None, slot: Tensor | None = None) -> Tensor:
        """Compute all tokens, dense [batch, slots, width] or packed [tokens, width]; or of each row the one in slot
        `slot`, int64 [batch]: [batch, width], for which the last block does no more."""
        return self.norm(self.pre_norm_states(x, packing, slot))

    def pre_norm_states(self, x: Tensor, packing: PackedBatch | None = None, slot: Tensor | None = None) -> Tensor:
        """Compute the states before the final LayerNorm; arguments and shapes as of `forward`."""
        if not self.chunk_on_cpu or x.device.type != "cpu":
            return self._through(x, packing, slot)
        done = [self._through(*part) for part in split_rows(x, packing, slot, PART)]
        return done[0] if len(done) == 1 else torch.cat(done)

    def merge(self, x: Tensor, count: int, first: int) -> Merged:
        """Compute dense tokens [batch, slots, width], of which each block merges `count`; the `first` ones stay."""
        parts = [x]
        if self.chunk_on_cpu and x.device.type == "cpu":
            parts = [part for part, *_ in split_rows(x, None, None, PART)]
        done = [self._merge(Merged.begin(part), count, first) for part in parts]
        tokens, size = map(torch.cat, zip(*done, strict=True))
        return Merged(self.norm(tokens), size)

    def _merge(self, x: Merged, count: int, first: int) -> Merged:
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            inputs = (x, merged_count(x.tokens.shape[1], count, first), first)
            x = recomputed(block.merge, *inputs) if recompute else block.merge(*inputs)
        return x

    def attended(self, x: Tensor, queries: int | None) -> Tensor:
        """Compute how much each of the dense tokens is attended to by the first `queries` (None: by all), the mean over
        blocks, [batch, slots]."""
        found = []
        for block in self.blocks:
            x, weights = block.look(x, x.shape[1] if queries is None else queries)
            found.append(weights)
        return torch.stack(found).mean(dim=0)

    def _through(self, x: Tensor, packing: PackedBatch | None, slot: Tensor | None) -> Tensor:
        recompute = self.recompute and torch.is_grad_enabled()
        *_, last = self.blocks
        for block in self.blocks:
            inputs = (x, packing, slot if block is last else None)
            x = recomputed(block, *inputs) if recompute else block(*inputs)
        return x


def initialize(module: nn.Module) -> None:
    """Initialize a module: Xavier-uniform matrices (q, k, v as one), zero biases, N(0, 0.02) embeddings; for
    `apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, Bottleneck):
        module.initialize(std=0.02)
