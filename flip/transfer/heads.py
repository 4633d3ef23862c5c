"""Heads on the states of patches: an encoder-decoder that says what a picture shows, and an encoder of patches and
question together that answers it (FLIP, section 4.2; there after METER, Dou et al. 2022, with a pre-trained RoBERTa).

Widths and depths are parameters; their blocks are the towers', pre-LayerNorm with exact GELU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Blocks, Tower
from flip.model.packing import PackedBatch
from flip.model.transformer import Attention, Transformer, initialize, mlp
from flip.transfer.words import END, PAD, START

FORM = Blocks(activation="gelu", norm_epsilon=1e-6)


class CrossAttention(nn.Module):
    """Each word looks at all states."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, states: Tensor) -> Tensor:
        """[batch, words, width], states [batch, slots, width] -> [batch, words, width]."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = self.keys_values(states).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    def __init__(self, tower: Tower, form: Blocks):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(tower.width, eps=form.norm_epsilon) for _ in range(3))
        self.attention = Attention(tower.width, tower.heads, causal=True)
        self.cross_attention = CrossAttention(tower.width, tower.heads)
        self.mlp = mlp(tower.width, form.activation)

    def forward(self, x: Tensor, states: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), None)
        x = x + self.cross_attention(self.norm2(x), states)
        return x + self.mlp(self.norm3(x))


def embedded(table: nn.Embedding, positions: Tensor, ids: Tensor) -> Tensor:
    return table(ids) + positions[: ids.shape[1]]


class Captioner(nn.Module):
    """States [pictures, slots, width of the tower] and words so far -> the next one's logits."""

    def __init__(self, tower: Tower, width: int, vocabulary: int, slots: int):
        super().__init__()
        self.embed = nn.Linear(width, tower.width)
        self.encoder = Transformer(tower, FORM)
        self.words = nn.Embedding(vocabulary, tower.width)
        self.positions = nn.Parameter(0.02 * torch.randn(slots, tower.width))
        self.blocks = nn.ModuleList(DecoderBlock(tower, FORM) for _ in range(tower.layers))
        self.norm = nn.LayerNorm(tower.width, eps=FORM.norm_epsilon)
        self.predict = nn.Linear(tower.width, vocabulary)
        self.apply(initialize)

    def decode(self, encoded: Tensor, ids: Tensor) -> Tensor:
        """Logits [batch, words, vocabulary] of what follows each word of ids [batch, words]."""
        x = embedded(self.words, self.positions, ids)
        for block in self.blocks:
            x = block(x, encoded)
        return self.predict(self.norm(x))

    def loss(self, states: Tensor, ids: Tensor) -> Tensor:
        """Cross-entropy of the words after the first; ids [batch, words] end in PAD."""
        logits = self.decode(self.encoder(self.embed(states)), ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD)

    @torch.no_grad()
    def say(self, states: Tensor) -> Tensor:
        """The likeliest word each time, ids [pictures, words] after START, until all captions have ended."""
        encoded = self.encoder(self.embed(states))
        ids = torch.full((len(states), 1), START, device=states.device)
        ended = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        while ids.shape[1] < len(self.positions) and not ended.all():
            following = self.decode(encoded, ids)[:, -1].argmax(dim=-1)
            ids = torch.cat([ids, following[:, None]], dim=1)
            ended |= following == END
        return ids[:, 1:]


class Answerer(nn.Module):
    """States [batch, slots, width of the tower] and questions [batch, words] -> logits of all answers."""

    def __init__(self, tower: Tower, width: int, vocabulary: int, slots: int, answers: int):
        super().__init__()
        self.embed = nn.Linear(width, tower.width)
        self.words = nn.Embedding(vocabulary, tower.width)
        self.positions = nn.Parameter(0.02 * torch.randn(slots, tower.width))
        self.class_token = nn.Parameter(0.02 * torch.randn(tower.width))
        self.transformer = Transformer(tower, FORM)
        self.predict = nn.Sequential(
            nn.Linear(tower.width, 2 * tower.width), nn.GELU(), nn.Linear(2 * tower.width, answers)
        )
        self.apply(initialize)

    def forward(self, states: Tensor, ids: Tensor) -> Tensor:
        """Logits [batch, answers]; ids end in PAD."""
        first = self.class_token.expand(len(states), 1, -1)
        x = torch.cat([first, self.embed(states), embedded(self.words, self.positions, ids)], dim=1)
        packing = PackedBatch.from_mask(ids != PAD).with_prefix(x.shape[1] - ids.shape[1])
        at = torch.zeros(len(ids), dtype=torch.long, device=x.device)
        return self.predict(self.transformer(packing.pack(x), packing, at))
