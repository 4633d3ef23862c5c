"""Build blocks of a text decoder: causal self-attention, attention to the image, MLP, each after a LayerNorm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Blocks, Tower
from flip.model.packing import PackedBatch
from flip.model.transformer import Attention, mlp, recomputed


class CrossAttention(nn.Module):
    """Attend from each token to all states of an encoder, which may have another width, `source`."""

    def __init__(self, width: int, heads: int, source: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(source or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, states: Tensor, packing: PackedBatch | None = None) -> Tensor:
        """Compute attention from x, dense [batch, slots, width] or packed [tokens, width], to states [batch, patches,
        source]; the shape of x stays."""
        query = self.query(x)
        query = (query if packing is None else packing.unpack(query)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = self.keys_values(states).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
        return self.out(x if packing is None else packing.pack(x))


class DecoderBlock(nn.Module):
    """Compute causal self-attention, cross-attention and an MLP, each after a LayerNorm and with a residual."""

    def __init__(self, tower: Tower, form: Blocks, source: int | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(tower.width, eps=form.norm_epsilon) for _ in range(3))
        self.attention = Attention(tower.width, tower.heads, causal=True)
        self.cross_attention = CrossAttention(tower.width, tower.heads, source)
        self.mlp = mlp(tower.width, form.activation)

    def forward(
        self, x: Tensor, states: Tensor, packing: PackedBatch | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Compute x, dense [batch, slots, width] or packed [tokens, width], from states [batch, patches, source]; the
        shape of x stays.

        `mask`, bool [batch, 1, slots, slots], says which tokens each one attends to, in place of those up to itself.
        """
        x = x + self.attention(self.norm1(x), packing, mask=mask)
        x = x + self.cross_attention(self.norm2(x), states, packing)
        return x + self.mlp(self.norm3(x))


class TextDecoder(nn.Module):
    """Apply decoder blocks and a final LayerNorm; arguments and shapes as of `DecoderBlock`.

    With `recompute`, as in flip.model.transformer.Transformer, training keeps the input of each block alone.
    """

    def __init__(self, tower: Tower, layers: int, form: Blocks, source: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(tower, form, source) for _ in range(layers))
        self.norm = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.recompute = False

    def forward(self, x: Tensor, states: Tensor, packing: PackedBatch | None, mask: Tensor | None) -> Tensor:
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            inputs = x, states, packing, mask
            x = recomputed(block, *inputs) if recompute else block(*inputs)
        return self.norm(x)
