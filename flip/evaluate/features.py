"""Image features of one split of a test set, computed once for all tasks and held in a file mapped into memory."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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


@torch.no_grad()
def compute(model: TwoTowers, loader, device: str) -> Features:
    """Features of all pictures of a loader of (images, targets); memory holds a batch of them."""
    targets = []
    with tempfile.TemporaryFile() as file:
        for images, target in loader:
            pooled = model.vision.feature(images.to(device)).cpu().numpy()
            file.write(pooled.tobytes())
            targets.append(target)
        file.flush()
        shape = sum(map(len, targets)), pooled.shape[1]
        return Features(torch.from_numpy(np.memmap(file, pooled.dtype, mode="c", shape=shape)), targets)
