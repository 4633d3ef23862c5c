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

from flip.model.embedding import Bottleneck
from flip.schema import Blocks, Tower

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

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        qkv = self.qkv(x)
        if valid is not None:
            qkv = unpack(qkv, valid)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [batch, heads, slots, width / heads]
        # Padding comes last, so what looks back alone does not see it.
        seen = None if valid is None or self.causal else valid[:, None, None, :]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal).transpose(1, 2).flatten(2)
        return self.out(x if valid is None else pack(x, valid))


class Block(nn.Module):
    def __init__(self, tower: Tower, form: Blocks, causal: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.attention = Attention(tower.width, tower.heads, causal)
        self.norm2 = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.mlp = mlp(tower.width, form.activation)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x = x + self.attention(self.norm1(x), valid)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Blocks and a final LayerNorm; shapes stay as they come.

    With `recompute`, training keeps only what goes into each block, and computes the rest again on the way back.
    """

    def __init__(self, tower: Tower, form: Blocks, causal: bool = False):
        super().__init__()
        self.blocks = nn.ModuleList(Block(tower, form, causal) for _ in range(tower.layers))
        self.norm = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.recompute = False

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.norm(self.hidden(x, valid))

    def hidden(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Before the final LayerNorm."""
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            x = recomputed(block, x, valid) if recompute else block(x, valid)
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
