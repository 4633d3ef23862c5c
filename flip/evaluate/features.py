"""Compute the image features of a split once for all tasks, in a file mapped into memory."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flip.evaluate.distinct import Firsts
from flip.evaluate.encoders import ImageLoader
from flip.model.two_towers import TwoTowers


@dataclass(frozen=True)
class Features:
    """Hold pooled features before the projection [images, width]; and for each batch of the loader the targets: classes
    [batch], or a list of captions for each image."""

    pooled: Tensor
    targets: list

    def batches(self) -> Iterator[tuple[Tensor, Tensor | list]]:
        """Yield (pooled features [batch, width], targets) in the loader's batches: results equal those of the images to
        the last bit."""
        start = 0
        for targets in self.targets:
            yield self.pooled[start : start + len(targets)].clone(), targets
            start += len(targets)

    @property
    def labels(self) -> np.ndarray:
        """Return the classes [images]."""
        return torch.cat(self.targets).numpy()


def mapped(parts: Iterable[np.ndarray]) -> Tensor:
    """Concatenate arrays [some, ...] to a tensor [all, ...], mapped from a file that is deleted with it."""
    with tempfile.TemporaryFile() as file:
        count = 0
        for part in parts:
            file.write(part.tobytes())
            count += len(part)
        file.flush()
        return torch.from_numpy(np.memmap(file, part.dtype, mode="c", shape=(count, *part.shape[1:])))


@torch.no_grad()
def compute(model: TwoTowers, loader: ImageLoader, device: str, ranked: bool = True) -> Features:
    """Compute the features of all images of a loader of (images, targets); memory holds one batch. If images are to be
    `ranked`, equal ones get equal features, to the last bit."""
    targets: list = []
    alike, vision = Firsts(), model.vision
    assert vision is not None

    def pooled() -> Iterator[np.ndarray]:
        for images, target in loader:
            targets.append(target)
            if ranked:
                alike.add(images)
            yield vision.feature(images.to(device)).cpu().numpy()

    found, places = mapped(pooled()), alike.places
    repeated = (places != torch.arange(len(places))).nonzero()[:, 0]
    found[repeated] = found[places[repeated]]
    return Features(found, targets)
