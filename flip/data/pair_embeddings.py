"""Read a trained model's embeddings of all training images and captions, computed once, beside the pairs.

data/<scale>/teachers/<variant>/seed-<seed>/images/      an array per shard, as of flip.data.feature_cache
data/<scale>/teachers/<variant>/seed-<seed>/captions/    the same, of all captions of each shard
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flip.config.schema import Params
from flip.data.feature_cache import FACTS, FeatureCache
from flip.files import read_json

PARTS = IMAGES, CAPTIONS = "images", "captions"
Rows = Callable[[int], np.ndarray]  # number of a shard -> [rows, width]
OPEN = 64  # arrays that are kept open


def embeddings_path(params: Params, data: Path, seed: int) -> Path | None:
    """Return the folder of the embeddings that a variant learns from; None where it learns from none."""
    name = params.embeddings
    return data / "teachers" / name / f"seed-{seed}" if name else None


class PairEmbeddings:
    """Read the embeddings of pairs: `teacher_image` and `teacher_text`, float32 [batch, width]."""

    def __init__(self, images: Rows, captions: Rows):
        self.images, self.captions = (lru_cache(maxsize=OPEN)(one) for one in (images, captions))

    def __call__(self, places: Sequence[tuple[int, int]], captions: Sequence[int]) -> dict[str, Tensor]:
        """Read those of the samples at places, number of a shard and of a sample in it, with the caption of a number in
        its shard each."""
        images = [self.images(number)[item] for number, item in places]
        texts = [self.captions(number)[item] for (number, _), item in zip(places, captions, strict=True)]
        named = {"teacher_image": images, "teacher_text": texts}
        return {name: torch.from_numpy(np.stack(rows).astype(np.float32)) for name, rows in named.items()}


def open_embeddings(folder: Path, manifest: dict) -> PairEmbeddings:
    """Open the embeddings of a manifest's pairs.

    Raises:
        ValueError: they are missing, of other pairs, or not what was written; the last when a shard is first read.
    """
    found = []
    for part in PARTS:
        if not (path := folder / part / FACTS).exists():
            raise ValueError(f"{path}: missing; `python -m flip.train.precompute_pairs` makes it")
        facts = read_json(path)
        found.append(FeatureCache(folder / part, manifest, facts["weights"], facts["width"]))
    return PairEmbeddings(*found)
