"""Draw parts of captions, and encode them (CLIPS, Liu et al. 2024, whose parts are sentences or tokens in a row)."""

import torch
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD, Batch
from flip.model.packing import true_counts
from flip.model.towers import Towers
from flip.rng import uniform


def draw_parts(params: Params, batch: Batch, seed: int) -> Batch:
    """Add parts of each caption, `part_ids`, int64 [batch, parts, slots], with its start and end token, and how many
    tokens they have, `part_lengths`, int64 [batch, parts]; a batch that has them stays as it is."""
    if "part_ids" in batch:
        return batch
    count = params.sub_captions.captions
    draws = uniform(seed, "sub-captions", batch["positions"], count).T
    ids = torch.stack([cut(params, batch["ids"], one) for one in draws], dim=1)
    lengths = true_counts((ids != PAD).flatten(0, 1)).reshape(len(ids), count)
    return batch | {"part_ids": ids, "part_lengths": lengths}


def cut(params: Params, ids: Tensor, draws: Tensor) -> Tensor:
    """Keep a share of the words of each caption, in a row, from a place that `draws`, uniform [batch], say: ids [batch,
    slots] -> same shape."""
    captions, slots = params.captions, torch.arange(ids.shape[1], device=ids.device)
    rest = ids[:, -1:] if captions.fill else torch.full_like(ids[:, :1], PAD)
    length = (ids != rest).sum(dim=1, keepdim=True) + captions.fill  # an end token is one of the caption's own
    before, after = int(captions.start), int(captions.end)
    words = (length - before - after).clamp(min=0)
    kept = (params.sub_captions.share * words).round().long().clamp(min=1).minimum(words)
    first = (draws[:, None] * (words - kept + 1)).long()
    end = before + kept
    source = torch.where(slots < before, slots, torch.where(slots < end, slots + first, slots - end + length - after))
    found = ids.gather(1, source.clamp(0, ids.shape[1] - 1))
    return torch.where(slots < end + after, found, rest)


class PartFeatures(nn.Module):
    """Compute `parts` [batch, parts, embedding]: text features of unit length."""

    def __init__(self, params: Params):
        super().__init__()
        self.params = params

    def forward(self, towers: Towers, batch: Batch, seed: int) -> dict[str, Tensor]:
        batch = draw_parts(self.params, batch, seed)
        ids, lengths = batch["part_ids"], batch["part_lengths"]
        return {"parts": towers.encode_text(ids.flatten(0, 1), lengths.reshape(-1)).unflatten(0, ids.shape[:2])}
