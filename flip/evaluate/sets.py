"""Test sets, read by clip-benchmark from local folders in its webdataset layout."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import flip.torchvision_operators  # noqa: F401  (before clip_benchmark imports torchvision)

from clip_benchmark.datasets.builder import build_wds_dataset  # isort: skip


def to_square(image: Image.Image, side: int) -> torch.Tensor:
    """uint8 [side, side, 3]: the centred square of the shorter side, bicubic (FLIP's evaluation has no margin)."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    square = image.convert("RGB").crop((left, top, left + short, top + short))
    return torch.from_numpy(np.array(square.resize((side, side), Image.Resampling.BICUBIC)))


def read_set(folder, side: int, batch: int, split: str = "test"):
    """The loader of (images, targets or captions) of a set's split, the set's class names and its prompt templates.

    Raises:
        ValueError: a folder without the layout.
    """
    folder = Path(folder)
    if not (folder / split / "nshards.txt").exists():
        raise ValueError(
            f"{folder}: no {split}/nshards.txt; evaluate.sets wants 'world' or a folder in clip-benchmark's webdataset "
            "layout (clip_benchmark_export_wds writes one)"
        )
    with warnings.catch_warnings():
        # webdataset would like to be told that the shards are not shuffled; clip-benchmark does not tell it.
        warnings.filterwarnings("ignore", message=".*shardshuffle")
        dataset = build_wds_dataset(folder.name, lambda image: to_square(image, side), split, str(folder))
    loader = torch.utils.data.DataLoader(dataset.batched(batch), batch_size=None)
    return loader, dataset.classes, dataset.templates
