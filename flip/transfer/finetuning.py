"""End-to-end fine-tuning: image tower and a new linear classifier learn a set's classes from its training split.

A layer's learning rate is a share of that of the layer above it (BEiT, Bao et al. 2021; FLIP, Table 12). Of the recipe
there, mixing of pictures, RandAugment and stochastic depth are left out.
"""

import copy

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

TRIES = 10  # crops that are drawn until one fits into the picture


class Classifier(nn.Module):
    """uint8 images [batch, height, width, 3] -> logits [batch, classes]; begins with a copy of the model's tower."""

    def __init__(self, model: TwoTowers, classes: int):
        super().__init__()
        self.vision = copy.deepcopy(model.vision)
        self.head = nn.Linear(model.params.model.vision.width, classes)
        initialize(self.head)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.vision.pool(self.vision(images)))


def depth(name: str, layers: int) -> int:
    """Of a parameter: 0 of what makes patches tokens, 1 of the first block, layers + 1 of what follows the last."""
    parts = name.split(".")
    if "blocks" in parts:
        return int(parts[parts.index("blocks") + 1]) + 1
    return 0 if parts[1] in ("embed", "positions", "class_token", "pre_norm") else layers + 1


def layered(classifier: Classifier, tuning: Finetuning) -> list[dict]:
    """Groups of parameters for AdamW, with `lr_scale`; vectors and positions do not decay."""
    layers, groups = len(classifier.vision.transformer.blocks), {}
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
    """Random crops, as large as the pictures were: uint8 [batch, side, side, 3]."""
    found = np.empty_like(images)
    for image, out in zip(images, found, strict=True):
        top, left, height, width = crop_box(*image.shape[:2], augmentation, random.random((TRIES, 4)))
        resize(image[top : top + height, left : left + width], out)
        if augmentation.flip and random.random() < 0.5:
            mirror(out)
    return torch.from_numpy(found)


def whole(loader) -> tuple[Tensor, Tensor]:
    """All pictures uint8 [pictures, side, side, 3] and their targets, in memory: steps draw from all of them."""
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Of the softmax for classes [batch]; for labels [batch, classes] the mean of those of sigmoids."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    return F.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / 2)


def learned(model: TwoTowers, training, classes: int, tuning: Finetuning, seed: int, device: str) -> Classifier:
    """A classifier that has learned from a loader of pictures and classes, or labels [batch, classes]."""
    torch.manual_seed(seed)
    (images, labels), random = whole(training), np.random.default_rng(seed)
    classifier = Classifier(model, classes).to(device)

    def loss(rows):
        logits = classifier(augmented(images[rows].numpy(), tuning.augmentation, random).to(device))
        return cross_entropy(logits, labels[rows].to(device), tuning.smoothing)

    fit(classifier, loss, len(labels), tuning, seed, layered(classifier, tuning))
    return classifier


def outcomes(
    model: TwoTowers, training, test, classes: int, measure: str, tuning: Finetuning, seed: int, device: str
) -> np.ndarray:
    """What the measure keeps of each test picture: float32 [pictures, ...]; for accuracy 1 where it is right, else 0.
    Loaders give both splits, pictures with classes or labels [batch, classes]."""
    classifier = learned(model, training, classes, tuning, seed, device)
    with torch.no_grad():
        found = [(classifier(images.to(device)).cpu(), targets) for images, targets in test]
    logits, targets = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return kept(measure, logits, targets)
