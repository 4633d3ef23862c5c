"""Compute the mean squared error on the removed patches (MAE, He et al. 2022, section 3)."""

import torch
from torch import Tensor, nn

from flip.config.schema import Params
from flip.losses.objective import Batch, Objective, Setting
from flip.model.mae_decoder import PixelDecoder
from flip.model.vision import patchify, statistics


class Pixels:
    """Compute the targets of reconstruction: normalised pixels [batch, patches, patch * patch * 3] of uint8 images.

    With `normalize`, each patch is normalised by its own mean and variance, too. Images are on `device`.
    """

    def __init__(self, params: Params, normalize: bool, device: str | torch.device = "cpu"):
        self.patch, self.normalize = params.model.patch, normalize
        self.mean, self.std = (x.float().repeat(self.patch**2).to(device) for x in statistics(params.form.vision))

    def __call__(self, images: Tensor) -> Tensor:
        pixels = self._scaled(images)
        if not self.normalize:
            return pixels
        mean, deviation = self._own(pixels)
        return (pixels - mean) / deviation

    def undo(self, predicted: Tensor, images: Tensor) -> Tensor:
        """Convert predictions [batch, patches, patch * patch * 3] for `images` back to the range of bytes, as floats,
        same shape.

        Where targets are normalised by patch, this takes each patch's true mean and variance, which no prediction holds
        (as MAE's released demo does).
        """
        if self.normalize:
            mean, deviation = self._own(self._scaled(images))
            predicted = predicted * deviation + mean
        return predicted * self.std + self.mean

    def _scaled(self, images: Tensor) -> Tensor:
        return (patchify(images, self.patch) - self.mean) / self.std

    def _own(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and standard deviation of each patch [batch, patches, 1]."""
        return pixels.mean(-1, keepdim=True), (pixels.var(-1, keepdim=True) + 1e-6).sqrt()


class ReconstructionObjective(Objective):
    """Average the squared error over the removed patches, of which each image has the same number."""

    reads_patches = True

    def __init__(self, setting: Setting):
        params = setting.params
        self.weight = params.reconstruction.weight
        self.targets = Pixels(params, params.reconstruction.normalize, setting.device)

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return PixelDecoder(params.model, params.reconstruction, params.form.vision)

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        error = (outputs["prediction"] - self.targets(batch["images"])).square().mean(dim=-1)
        removed = outputs["removed"]
        return {"reconstruction": self.weight * (error * removed).sum() / removed.sum()}
