"""The only transformer: pre-LayerNorm blocks, used by both towers and the decoder.

It works on dense sequences [batch, slots, width] and, where captions differ in length, on packed ones: the real
tokens of all captions one after another [tokens, width], with `valid` [batch, slots] saying where each belongs.
Everything but the attention itself then costs nothing for padding.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flip.schema import Tower

# No block draws random numbers, so there is no generator's state to keep.
recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def pack(x: Tensor, valid: Tensor) -> Tensor:
    """[batch, slots, ...] -> [tokens, ...]: the valid slots, row by row."""
    return x[valid]


def unpack(x: Tensor, valid: Tensor) -> Tensor:
    """[tokens, width] -> [batch, slots, width], zero where nothing is."""
    padded = x.new_zeros(*valid.shape, x.shape[-1])
    padded[valid] = x
    return padded


class Attention(nn.Module):
    """Multi-head self-attention; padding is never attended to."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        qkv = self.qkv(x)
        if valid is not None:
            qkv = unpack(qkv, valid)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [batch, heads, slots, width / heads]
        seen = None if valid is None else valid[:, None, None, :]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        return self.out(x if valid is None else pack(x, valid))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), valid)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Blocks and a final LayerNorm; shapes stay as they come.

    With `recompute`, training keeps only what goes into each block, and computes the rest again on the way back.
    """

    def __init__(self, tower: Tower):
        super().__init__()
        self.blocks = nn.ModuleList(Block(tower.width, tower.heads) for _ in range(tower.layers))
        self.norm = nn.LayerNorm(tower.width, eps=1e-6)
        self.recompute = False

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            x = recomputed(block, x, valid) if recompute else block(x, valid)
        return self.norm(x)


def initialize(module: nn.Module) -> None:
    """Xavier-uniform matrices (q, k, v as one), zero biases, N(0, 0.02) embeddings; to be used with `apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
