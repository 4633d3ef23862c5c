"""Score pairs by the cosine of a trained model's features: the CLIP score (Hessel et al. 2021; LAION's filter)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from flip.data.shard import Shard, open_shard
from flip.data.tar_cache import TarCache
from flip.evaluate.encoders import Tokenize
from flip.model.two_towers import TwoTowers
from flip.train.precompute_features import pixels


class PairScorer:
    """Score the pairs of shards with a model."""

    def __init__(self, model: TwoTowers, tokenize: Tokenize, device: str):
        self.model, self.tokenize, self.device = model, tokenize, device

    @torch.inference_mode()
    def batch(self, shard: Shard, items: range) -> np.ndarray:
        """Return the cosines of some pairs, float32 [items]; nan where an image cannot be decoded."""
        params = self.model.params
        images, decoded = pixels(shard, items, params.model.image)
        ids = self.tokenize([shard.caption(item) for item in items])
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, params.train.autocast == "bfloat16"):
            image = self.model.encode_image(torch.from_numpy(images).to(self.device))
            text = self.model.encode_text(ids.to(self.device))
        found = F.cosine_similarity(image.float(), text.float()).cpu().numpy()
        found[~decoded] = np.nan
        return found

    def shard(self, shard: Shard) -> Iterator[np.ndarray]:
        """Yield the cosines of a shard's pairs, batch by batch."""
        size = self.model.params.evaluate.batch
        for first in range(0, len(shard), size):
            yield self.batch(shard, range(first, min(first + size, len(shard))))


def scores(scorer: PairScorer, data: Path, shards: list[dict]) -> Iterator[np.ndarray]:
    """Yield the scores of the pairs of shards, float32 [some], in their order; those of images that cannot be decoded
    are below all others."""
    hold = TarCache(scorer.model.params.source.cache).hold
    for entry in shards:
        for found in scorer.shard(open_shard(data / "shards", entry, hold)):
            yield np.where(np.isnan(found), -np.inf, found)
