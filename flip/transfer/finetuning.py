"""Fine-tune the image tower with a new linear classifier on the training split of a set, end to end.

Learning rates decay by a factor from each layer to the one below (BEiT, Bao et al. 2021; FLIP, Table 12). Of the recipe
there, mixing of images, RandAugment and stochastic depth are left out.
"""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Augmentation
from flip.config.sections.transfer import Finetuning
from flip.data.crops import crop_box, mirror, resize
from flip.metrics.scoring import kept
from flip.model.transformer import initialize
from flip.model.two_towers import TwoTowers
from flip.transfer.fit import fit

Batches = Iterable[tuple[Tensor, Tensor]]  # images uint8 [batch, side, side, 3], targets
TRIES = 10  # crops that are drawn until one fits into the image


class Classifier(nn.Module):
    """Classify uint8 images [batch, height, width, 3] by logits [batch, classes]; starts from a copy of the tower."""

    def __init__(self, model: TwoTowers, classes: int) -> None:
        super().__init__()
        assert model.vision is not None
        self.vision = copy.deepcopy(model.vision)
        self.head = nn.Linear(model.params.model.vision.width, classes)
        initialize(self.head)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.vision.pool(self.vision(images)))


def depth(name: str, layers: int) -> int:
    """Return the depth of a parameter: 0 for the patch embedding, 1 for the first block, layers + 1 after the last."""
    parts = name.split(".")
    if "blocks" in parts:
        return int(parts[parts.index("blocks") + 1]) + 1
    return 0 if parts[1] in ("embed", "positions", "class_token", "pre_norm") else layers + 1


def layered(classifier: Classifier, tuning: Finetuning) -> list[dict[str, Any]]:
    """Return groups of parameters for AdamW, with `lr_scale`; vectors and positions have no weight decay."""
    layers = len(classifier.vision.transformer.blocks)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in classifier.named_parameters():
        exempt = parameter.ndim < 2 or "positions" in name
        groups.setdefault((depth(name, layers), exempt), []).append(parameter)
    return [
        {
            "params": some,
            "lr_scale": tuning.layer_decay ** (layers + 1 - level),
            "weight_decay": 0.0 if exempt else tuning.weight_decay,
        }
        for (level, exempt), some in groups.items()
    ]


def augmented(images: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> Tensor:
    """Return random crops, resized to the size of the images: uint8 [batch, side, side, 3]."""
    found = np.empty_like(images)
    for image, out in zip(images, found, strict=True):
        rows, columns = image.shape[:2]
        top, left, height, width = crop_box(rows, columns, augmentation, random.random((TRIES, 4)))
        resize(image[top : top + height, left : left + width], out)
        if augmentation.flip and random.random() < 0.5:
            mirror(out)
    return torch.from_numpy(found)


def in_memory(loader: Batches) -> tuple[Tensor, Tensor]:
    """Load all images uint8 [images, side, side, 3] and their targets: steps draw from all of them."""
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of the softmax for classes [batch]; for labels [batch, classes], of sigmoids (mean)."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    return F.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / 2)


def train(model: TwoTowers, training: Batches, classes: int, tuning: Finetuning, seed: int, device: str) -> Classifier:
    """Train a classifier on a loader of images and classes, or labels [batch, classes].

    Raises:
        ValueError: weights are not finite at the end.
    """
    torch.manual_seed(seed)
    (images, labels), random = in_memory(training), np.random.default_rng(seed)
    classifier = Classifier(model, classes).to(device)

    def loss(rows: Tensor) -> Tensor:
        logits = classifier(augmented(images[rows].numpy(), tuning.augmentation, random).to(device))
        return cross_entropy(logits, labels[rows].to(device), tuning.smoothing)

    fit(classifier, loss, len(labels), tuning, seed, layered(classifier, tuning))
    return classifier


def outcomes(
    model: TwoTowers,
    training: Batches,
    test: Batches,
    classes: int,
    measure: str,
    tuning: Finetuning,
    seed: int,
    device: str,
) -> np.ndarray:
    """Fine-tune, and return what the measure keeps of each test image: float32 [images, ...]; for accuracy 0 or 1.

    Loaders give both splits: images with classes, or labels [batch, classes].

    Raises:
        ValueError: weights are not finite at the end.
    """
    classifier = train(model, training, classes, tuning, seed, device)
    with torch.no_grad():
        found = [(classifier(images.to(device)).cpu(), targets) for images, targets in test]
    logits, targets = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return kept(measure, logits, targets)
