"""Score pairs by the cosine of a trained model's features: the CLIP score (Hessel et al. 2021; LAION's filter)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from flip.data.shard import open_shard
from flip.data.tar_cache import TarCache
from flip.evaluate.encoders import Tokenize
from flip.model.two_towers import TwoTowers
from flip.train.precompute_features import embed_shard
from flip.train.precompute_pairs import PairEncoder


def scores(model: TwoTowers, tokenize: Tokenize, device: str, data: Path, shards: list[dict]) -> Iterator[np.ndarray]:
    """Yield the scores of the pairs of each shard, float32 [pairs], in their order; those of images that cannot be
    decoded are below all others."""
    encoder, hold = PairEncoder(model, device), TarCache(model.params.source.cache).hold
    for entry in shards:
        shard = open_shard(data / "shards", entry, hold)
        ids = tokenize([shard.caption(item) for item in range(len(shard))])
        image, text = map(torch.from_numpy, (embed_shard(encoder, shard), encoder.captions(ids.numpy())))
        found = F.cosine_similarity(image.float(), text.float()).numpy()
        yield np.where(np.isnan(found), -np.inf, found)
