"""Draw what a model that predicts pixels reconstructs of masked patches, on test images masked as in training."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flip.data.contact_sheet import SHOWN, cell, sheet, spread, webp
from flip.evaluate.encoders import Tokenize
from flip.losses.reconstruction import Pixels
from flip.model.two_towers import Forward, TwoTowers
from flip.model.vision import patchify, unpatchify
from flip.testsets.reader import examples, prompts

MEASURED = 512  # images, evenly spaced over the test set
GREY = 128  # what stands for a removed patch


@dataclass(frozen=True)
class Prediction:
    """Hold the predictions of all patches [images, patches, patch * patch * 3], which were removed [images, patches],
    and their targets."""

    values: Tensor
    removed: Tensor
    targets: Pixels


def by_decoder(model: TwoTowers, batch: dict[str, Tensor], seed: int) -> Prediction:
    """Predict by MAE's decoder, as in training."""
    assert model.decoder is not None
    outputs = model.decoder(Forward(model, batch, seed), batch, seed)
    targets = Pixels(model.params, model.params.reconstruction.normalize, batch["images"].device)
    return Prediction(outputs["prediction"], outputs["removed"], targets)


def beside_words(model: TwoTowers, batch: dict[str, Tensor], seed: int) -> Prediction:
    """Predict by the masked forward over images and captions, as in training."""
    outputs = model.passes["generative"](model, batch, seed)
    targets = Pixels(model.params, model.params.generative.normalize, batch["images"].device)
    return Prediction(outputs["pixels"], outputs["removed_patches"], targets)


def ways(model: TwoTowers) -> dict:
    """Return how the model predicts pixels, by the section of its parameters."""
    found = {"reconstruction": by_decoder} if model.params.reconstruction.weight else {}
    return found | ({"generative": beside_words} if model.params.generative.pixels else {})


def drawn(prediction: Prediction, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the model's input and its reconstruction, both uint8 [images, side, side, 3]: removed patches are grey, or
    as predicted; all others are the image's own."""
    removed, patches = prediction.removed[:, :, None], patchify(images, prediction.targets.patch)
    predicted = prediction.targets.undo(prediction.values, images).round().clamp(0, 255).to(torch.uint8)
    found = (torch.where(removed, new, patches) for new in (torch.full_like(patches, GREY), predicted))
    kept, restored = (unpatchify(one, prediction.targets.patch) for one in found)
    return kept, restored


class Error:
    """Compute the squared error of removed patches in units of the variance of their targets, over batches: 0 for a
    perfect prediction, 1 for the mean."""

    def __init__(self) -> None:
        self.count, self.error, self.sum, self.squares = 0, 0.0, 0.0, 0.0

    def add(self, prediction: Prediction, images: Tensor) -> None:
        targets = prediction.targets(images)[prediction.removed].double()
        self.count += targets.numel()
        self.error += (prediction.values[prediction.removed].double() - targets).square().sum().item()
        self.sum += targets.sum().item()
        self.squares += targets.square().sum().item()

    @property
    def value(self) -> float:
        return self.error / (self.squares - self.sum**2 / self.count)


def stacks(images: Tensor, prediction: Prediction) -> list:
    """Return cells of a sheet for uint8 [images, side, side, 3]: each image, below it its kept patches, below that the
    reconstruction."""
    rows = [images, *drawn(prediction, images)]
    return [[cell(image.cpu().numpy()) for image in three] for three in zip(*rows, strict=True)]


@torch.no_grad()
def reconstructions(model: TwoTowers, tokenize: Tokenize, folder: Path, seed: int, device: str) -> dict[str, tuple]:
    """Return by section that asks for pixels a sheet (WebP) of test images of a set with classes, and facts about it.

    Where the model reads words, too, an image's caption is its class in the set's first prompt, masked as in training.
    """
    if not (found := ways(model)):
        return {}
    params = model.params
    names, templates = prompts(folder)
    assert names is not None
    assert templates is not None
    images, labels = examples(folder, params.model.image, MEASURED)
    classes = [names[label] for label in labels]
    ids = tokenize([templates[0].format(c=name) for name in classes])
    every = {"images": images, "ids": ids, "positions": torch.arange(len(images))}
    shown = spread(len(images), SHOWN)
    sheets = {}
    for section, way in found.items():
        error = Error()
        for rows in torch.arange(len(images)).split(params.evaluate.batch):
            batch = {name: values[rows].to(device) for name, values in every.items()}
            error.add(way(model, batch, seed), batch["images"])
        batch = {name: values[shown].to(device) for name, values in every.items()}
        prediction = way(model, batch, seed)
        facts = {
            "kind": "reconstruction",
            "subjects": [classes[place] for place in shown],
            "removed": prediction.removed.float().mean().item(),
            "normalized": prediction.targets.normalize,
            "words": way is beside_words,
            "error": error.value,
            "measured": len(images),
        }
        sheets[section] = webp(sheet(stacks(batch["images"], prediction))), facts
    return sheets
