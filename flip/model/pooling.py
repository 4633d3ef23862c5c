"""Multi-head attention pooling: one learned query looks at all tokens (SigLIP's MAP head; Zhai et al. 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Blocks, Tower
from flip.model.transformer import mlp


class AttentionPooling(nn.Module):
    """With as many heads as its tower; no residual around the attention, none of the positions."""

    def __init__(self, tower: Tower, form: Blocks):
        super().__init__()
        self.heads = tower.heads
        self.probe = nn.Parameter(torch.empty(tower.width))
        self.query = nn.Linear(tower.width, tower.width)
        self.keys_values = nn.Linear(tower.width, 2 * tower.width)
        self.out = nn.Linear(tower.width, tower.width)
        self.norm = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.mlp = mlp(tower.width, form.activation)
        nn.init.normal_(self.probe, std=tower.width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, slots, width] -> [batch, width]."""
        query = self.query(self.probe).unflatten(0, (self.heads, 1, -1)).expand(len(x), -1, -1, -1)
        keys, values = self.keys_values(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = self.out(F.scaled_dot_product_attention(query, keys, values).flatten(1))  # one query: [batch, width]
        return x + self.mlp(self.norm(x))
