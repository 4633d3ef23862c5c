"""Cache a test set's images at the model's size, decoded once for all variants and mapped into memory.

Decoding takes longer than a small model does. The cache depends on the set and on the code that reads it alone, so it
can be deleted at any time, and two jobs that write it at once write the same.
"""

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from flip.data.checksum import check, checked, read_checked
from flip.provenance.sources import source_hash
from flip.testsets.reader import ImageSplit, to_square

# Bytes of a split at most: all test sets of FLIP's tables fit, at 224 pixels and more; ImageNet's training split, which
# would take 193 GB, is decoded each time.
LARGEST = 16 << 30
READERS = ("flip.config.kinds", "flip.formats.images")


def is_captions(target: object) -> bool:
    return isinstance(target, list) and isinstance(target[0], str)


@dataclass(frozen=True)
class Squares:
    """Yield batches (images uint8 [batch, side, side, 3], targets) of all images [images, side, side, 3]; targets are
    classes, labels [images, classes], or a list of captions for each image."""

    images: np.ndarray
    targets: list
    batch: int

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | list]]:
        for start in range(0, len(self.targets), self.batch):
            targets = self.targets[start : start + self.batch]
            images = torch.from_numpy(np.array(self.images[start : start + self.batch]))
            yield images, targets if is_captions(targets[0]) else torch.tensor(targets)


def write(loader: ImageSplit, pixels: Path, targets: Path, samples: int) -> None:
    """Write both files of a split; that of the targets, which comes last, shows that the other one is complete.

    Raises:
        ValueError: other than so many samples, which is how many were compared with the training data.
    """
    found: list = []
    with checked(pixels) as file:
        for images, some in loader:
            file.write(images.numpy().tobytes())
            found += some.tolist() if isinstance(some, Tensor) else some
    if len(found) != samples:
        raise ValueError(
            f"{loader.folder}: {len(found)} samples, but its revision.json says {samples}; make that again"
        )
    with checked(targets) as file:
        file.write(json.dumps(found).encode())


def stored(pixels: Path, targets: Path, side: int) -> tuple[np.ndarray, list]:
    """Read what `write` has written: images [images, side, side, 3], mapped into memory, and targets.

    Raises:
        OSError: a file is not there.
        ValueError: bits of one have changed.
    """
    found, size = json.loads(read_checked(targets)), check(pixels)
    return np.memmap(pixels, np.uint8, mode="r", shape=(size // (side * side * 3), side, side, 3)), found


def decoded(loader: ImageSplit, place: Path, revision: dict, side: int, batch: int) -> Squares | ImageSplit:
    """Return the same as `loader` of a split that `revision` describes, from files in `place`, which the first call
    writes.

    For a split larger than LARGEST it is the loader itself.
    """
    if revision["samples"] * side * side * 3 > LARGEST:
        return loader
    read_by = "".join(map(source_hash, READERS)) + inspect.getsource(to_square)
    made_by = f"{revision['sha256']} {side} {read_by} {PIL.__version__}"
    name = sha256(made_by.encode()).hexdigest()[:16]
    pixels, targets = place / f"{name}.bin", place / f"{name}.json"
    try:
        found = stored(pixels, targets, side)
    except (OSError, ValueError):  # not there yet, or spoilt
        write(loader, pixels, targets, revision["samples"])
        found = stored(pixels, targets, side)
    return Squares(*found, batch)
