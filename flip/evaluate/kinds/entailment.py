"""Measure whether a model can tell that a statement is right: of an image (a task of vision and language together), and
of a caption of that image (a task of language alone).

A linear probe answers, fitted to the set's training split. It reads the state of the multimodal encoder where there is
one (FLAVA, section 4: its tasks of both sides), else how two features differ and where they agree, |u - v| and u * v
(Conneau et al. 2017, arXiv 1705.02364, section 3.1, without u and v, of which neither alone says whether they agree).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.kinds.entailment import texts
from flip.evaluate.distinct import encode_texts, equal_images
from flip.evaluate.encoders import ImageLoader, Tokenize
from flip.evaluate.features import Features
from flip.evaluate.trial import Trial
from flip.formats.layout import tars
from flip.metrics.scoring import by_image
from flip.model.two_towers import TwoTowers


def pair(u: Tensor, v: Tensor) -> Tensor:
    """Return the input of a probe for two features [batch, width] of any length: [batch, 2 * width]."""
    u, v = F.normalize(u, dim=-1), F.normalize(v, dim=-1)
    return torch.cat([(u - v).abs(), u * v], dim=-1)


def beside_image(model: TwoTowers, images: Tensor, ids: Tensor) -> Tensor:
    """Return the input of a probe for uint8 images [batch, height, width, 3] and statements, token ids [batch,
    slots]."""
    if model.params.flava.is_multimodal:
        multimodal: Any = model.passes["flava"]
        return multimodal.class_states(model, images, ids)
    return pair(model.encode_image(images), model.encode_text(ids))


@torch.no_grad()
def features(
    model: TwoTowers, tokenize: Tokenize, loader: ImageLoader, lines: list[list[str]], device: str
) -> dict[str, Features]:
    """Return by task the inputs of a probe for a split: for images and statements, and for captions and statements."""
    found: dict[str, list[Tensor]] = {}
    labels: list[Tensor] = []
    start = 0
    for images, targets in loader:
        both_sides = zip(*lines[start : start + len(targets)], strict=True)
        captions, claims = (tokenize(list(words)) for words in both_sides)
        if model.params.relates:
            found.setdefault("image", []).append(beside_image(model, images.to(device), claims.to(device)).cpu())
        if model.text is not None:
            both = encode_texts(model.text, torch.cat([captions, claims]), device)
            found.setdefault("text", []).append(pair(*both.chunk(2)))
        labels.append(targets)
        start += len(targets)
    return {task: Features(torch.cat(parts), labels) for task, parts in found.items()}


def outcomes(
    model: TwoTowers, tokenize: Tokenize, folder: Path, loaders: Mapping[str, ImageLoader], device: str
) -> dict[str, np.ndarray]:
    """Return by task, image or text, 1 where the probe is right, else 0, [statements], as `by_image` stores it, since
    an image may be there with several statements; those that the model can do.

    `loaders` give images and labels of the splits train and test.
    """
    from flip.evaluate import probe  # here, as scikit-learn takes two seconds to import

    splits = {
        split: features(model, tokenize, loader, texts(tars(folder, split)), device)
        for split, loader in loaders.items()
    }
    right = {task: probe.outcomes(splits["train"][task], splits["test"][task]) for task in splits["test"]}
    owners = equal_images(loaders["test"])
    return {task: by_image(values, owners) for task, values in right.items()}


def measure(trial: Trial) -> dict[str, np.ndarray]:
    """Return `outcomes` [statements] by "-image" and "-text", where there is a training split to fit probes to."""
    if not trial.probed:
        return {}
    loaders = {split: trial.read(split) for split in ("train", "test")}
    found = outcomes(trial.model, trial.tokenize, trial.folder, loaders, trial.device)
    return {f"-{task}": values for task, values in found.items()}
