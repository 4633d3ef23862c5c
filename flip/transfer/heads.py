"""Define heads on frozen patch features: an encoder-decoder for captioning, and a joint encoder of patches and question
for question answering (FLIP, section 4.2; there after METER, Dou et al. 2022, with a pre-trained RoBERTa).

Widths and depths are parameters; blocks are those of the towers, pre-LayerNorm with exact GELU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Blocks, Tower
from flip.model.decoder import DecoderBlock
from flip.model.packing import PackedBatch
from flip.model.transformer import Transformer, initialize
from flip.transfer.words import END, PAD, START

FORM = Blocks(activation="gelu", norm_epsilon=1e-6)


def embedded(table: nn.Embedding, positions: Tensor, ids: Tensor) -> Tensor:
    """Return embeddings of ids [batch, words] plus positions: [batch, words, width]."""
    return table(ids) + positions[: ids.shape[1]]


class Captioner(nn.Module):
    """Predict the next word of a caption from states [images, patches, width] of the image tower and previous words."""

    def __init__(self, tower: Tower, width: int, vocabulary: int, slots: int) -> None:
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
        """Return logits [batch, words, vocabulary] of the word after each of ids [batch, words]."""
        x = embedded(self.words, self.positions, ids)
        for block in self.blocks:
            x = block(x, encoded)
        return self.predict(self.norm(x))

    def loss(self, states: Tensor, ids: Tensor) -> Tensor:
        """Return the mean cross-entropy of all words but the first; ids [batch, words] are padded with PAD."""
        logits = self.decode(self.encoder(self.embed(states)), ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD)

    @torch.no_grad()
    def say(self, states: Tensor) -> Tensor:
        """Decode greedily until all captions have ended: ids [images, words], without START."""
        encoded = self.encoder(self.embed(states))
        ids = torch.full((len(states), 1), START, device=states.device)
        ended = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        while ids.shape[1] < len(self.positions) and not ended.all():
            following = self.decode(encoded, ids)[:, -1].argmax(dim=-1)
            ids = torch.cat([ids, following[:, None]], dim=1)
            ended |= following == END
        return ids[:, 1:]


class Answerer(nn.Module):
    """Classify questions [batch, words] about states [batch, patches, width] of the image tower into answers."""

    def __init__(self, tower: Tower, width: int, vocabulary: int, slots: int, answers: int) -> None:
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
        """Return logits [batch, answers]; ids are padded with PAD."""
        first = self.class_token.expand(len(states), 1, -1)
        x = torch.cat([first, self.embed(states), embedded(self.words, self.positions, ids)], dim=1)
        packing = PackedBatch.from_mask(ids != PAD).with_prefix(x.shape[1] - ids.shape[1])
        at = torch.zeros(len(ids), dtype=torch.long, device=x.device)
        return self.predict(self.transformer(packing.pack(x), packing, at))
