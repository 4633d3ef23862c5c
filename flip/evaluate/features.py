"""Image features of one split of a test set, computed once for all tasks and held in a file mapped into memory."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flip.evaluate.distinct import Firsts
from flip.model.two_towers import TwoTowers


@dataclass(frozen=True)
class Features:
    """What the vision tower's pooling gives, before the projection [pictures, width]; and per batch of the loader the
    targets: classes [batch], or a list of captions for each picture."""

    pooled: Tensor
    targets: list

    def batches(self) -> Iterator[tuple[Tensor, Tensor | list]]:
        """(pooled features, targets), in the loader's batches: results are those of the pictures to the last bit."""
        start = 0
        for targets in self.targets:
            yield self.pooled[start : start + len(targets)].clone(), targets
            start += len(targets)

    @property
    def labels(self) -> np.ndarray:
        """Classes [pictures]."""
        return torch.cat(self.targets).numpy()


def mapped(parts) -> Tensor:
    """Arrays [some, ...] one after another as a tensor [all, ...], mapped from a file that goes with it."""
    with tempfile.TemporaryFile() as file:
        count = 0
        for part in parts:
            file.write(part.tobytes())
            count += len(part)
        file.flush()
        return torch.from_numpy(np.memmap(file, part.dtype, mode="c", shape=(count, *part.shape[1:])))


@torch.no_grad()
def compute(model: TwoTowers, loader, device: str, ranked: bool = True) -> Features:
    """Features of all pictures of a loader of (images, targets); memory holds a batch of them. Where pictures are to be
    `ranked`, equal ones get equal features, to the last bit."""
    targets, alike = [], Firsts()

    def pooled():
        for images, target in loader:
            targets.append(target)
            if ranked:
                alike.add(images)
            yield model.vision.feature(images.to(device)).cpu().numpy()

    found, places = mapped(pooled()), alike.places
    repeated = (places != torch.arange(len(places))).nonzero()[:, 0]
    found[repeated] = found[places[repeated]]
    return Features(found, targets)
