"""Read which pairs of the shards a variant is trained on (flip.curate).

curated/<scale>/<variant>/seed-<seed>/selection.json     threshold, ledger row, pairs of each shard
curated/<scale>/<variant>/seed-<seed>/scores/<part>.npy  float32 [pairs], in the order of the part's shards
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flip.files import read_json

SCORES = "scores"


def kept(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Tell which pairs are kept by scores float32 [pairs]: bool [pairs]; none whose score is not finite."""
    return np.isfinite(scores) & (scores >= np.float32(threshold))


class Selection:
    """Hold which items of the shards of a manifest are kept.

    Raises:
        ValueError: it was made for other data, or fewer pairs than a batch are kept.
    """

    def __init__(self, path: str | Path, manifest: dict, batch: int):
        self.path, self.shards = Path(path), manifest["shards"]
        self.facts: dict[str, Any] = read_json(self.path)
        if self.facts["manifest"] != manifest["id"]:
            raise ValueError(f"{path}: chosen from other data than manifest.json has; run the pipeline again")
        self._scores = cache(lambda part: np.load(self.path.parent / SCORES / f"{part}.npy", mmap_mode="r"))
        self.counts = np.array([self._count(number) for number in range(len(self.shards))])
        if (pairs := int(self.counts.sum())) < batch:
            raise ValueError(
                f"curation keeps {pairs} pairs, fewer than a batch of {batch}; keep more of them, or lower train.batch"
            )

    def _count(self, number: int) -> int:
        """Return how many pairs of a shard are kept; of one that is cut (train.data_share), of its first ones."""
        known = self.facts["shards"][self.shards[number]["name"]]
        return known["kept"] if known["pairs"] == self.shards[number]["samples"] else len(self.items(number))

    def items(self, number: int) -> np.ndarray:
        """Return the items of a shard that are kept, ascending: int64 [kept]."""
        name, samples = self.shards[number]["name"], self.shards[number]["samples"]
        first = self.facts["shards"][name]["first"]
        scores = self._scores(name.partition("/")[0])[first : first + samples]
        return np.flatnonzero(kept(scores, self.facts["threshold"]))
