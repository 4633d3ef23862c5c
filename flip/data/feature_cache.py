"""Store image features of all training images, computed once by a locked tower: an array per shard, memory-mapped.

features/<scale>/<variant>/seed-<seed>/features.json         of which tower and images they are
features/<scale>/<variant>/seed-<seed>/<shard>.npy           [samples, width]; nan where an image cannot be decoded;
                                                             then a digest (flip.data.checksum)
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flip.data.checksum import check, checked
from flip.data.loader import Batch, ImageReader, Place
from flip.files import read_json

FACTS = "features.json"


def features_path(folder: str | Path, shard: str) -> Path:
    """Return the file of a shard's features, by its name in the manifest."""
    return (Path(folder) / shard).with_suffix(".npy")


def write_features(folder: str | Path, shard: str, rows: np.ndarray) -> None:
    """Write the features [samples, width] of a shard."""
    with checked(features_path(folder, shard), shard) as file:
        np.save(file, rows)


class FeatureCache:
    """Read features: features(number) -> [samples, width] of the manifest's shard of that number.

    Raises:
        ValueError: they are missing, of other images or another tower, or not what was written; the last is checked
            when a shard is first read.
    """

    def __init__(self, folder: str | Path, manifest: dict, weights: str, width: int):
        """Open a folder of features; `weights` is the SHA-256 of the tower's file, `width` the width of its features.

        A shard may have more of them than the manifest has samples: of captions, of which samples have several, and
        where it is cut (train.data_share).
        """
        self.folder, self.width = Path(folder), width
        self.good: set[int] = set()
        self.names = [shard["name"] for shard in manifest["shards"]]
        self.paths = [features_path(folder, name) for name in self.names]
        facts = self._facts()
        for name, wanted in {"manifest": manifest["id"], "weights": weights}.items():
            if facts[name] != wanted:
                raise ValueError(f"{self.folder / FACTS}: {name} {facts[name]}, expected {wanted}; {self._remedy()}")
        for number, shard in enumerate(manifest["shards"]):
            found, expected = self._mapped(number).shape, (shard["samples"], width)
            if found[1:] != expected[1:] or found[0] < expected[0]:
                raise ValueError(f"{self.paths[number]}: shape {found}, expected {expected}; {self._remedy()}")

    def __call__(self, number: int) -> np.ndarray:
        if number not in self.good:
            try:
                check(self.paths[number], self.names[number])
            except (ValueError, OSError) as error:
                raise ValueError(f"{self.paths[number]}: cannot be used ({error}); {self._remedy()}") from None
            self.good.add(number)
        return self._mapped(number)

    def _mapped(self, number: int) -> np.ndarray:
        try:
            return np.load(self.paths[number], mmap_mode="r").view(np.ndarray)
        except Exception as error:  # a header with other bits makes the reader fail in any way
            raise ValueError(f"{self.paths[number]}: cannot be read ({error}); {self._remedy()}") from None

    def _facts(self) -> dict:
        if not (self.folder / FACTS).exists():
            raise ValueError(f"{self.folder / FACTS}: missing; `python -m flip.train.precompute_features` makes it")
        return read_json(self.folder / FACTS)

    def _remedy(self) -> str:
        return f"delete {self.folder} and run the pipeline again"


class FeatureReader(ImageReader):
    """Read features float32 [batch, width] in place of images.

    `features(number)` returns those of a shard, [samples, width].
    """

    def __init__(self, features: Callable[[int], np.ndarray], *images: Any):
        super().__init__(*images)
        self.features = lru_cache(maxsize=self.shards.most)(features)

    def expect(self, position: int) -> None:
        """Fetch no images."""

    def _read(self, place: Place, *where: list) -> bool:
        (rows,) = where
        row = self.features(place[0])[place[1]]
        if np.isnan(row[0]):
            return False
        rows.append(row)
        return True

    def __call__(self, positions: torch.Tensor) -> tuple[Batch, list[Place]]:
        rows: list[np.ndarray] = []
        places = [self._pair(position, rows) for position in positions.tolist()]
        return {"features": torch.from_numpy(np.stack(rows).astype(np.float32))}, places
