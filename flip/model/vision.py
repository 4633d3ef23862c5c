"""The vision tower: a ViT as in FLIP, section 3: no extra LayerNorm, fixed 2-D sine-cosine positions, average pooling.

The released code also averages a class token in; the paper speaks of global average pooling alone, so there is none.
"""

import torch
from torch import Tensor, nn

from flip.model.transformer import Transformer
from flip.schema import Model

# ImageNet's statistics, for pixels in 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def sincos_positions(width: int, grid: int) -> Tensor:
    """Fixed 2-D positions [grid^2, width], row by row (MAE, appendix): half for the row, half for the column."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    one = torch.cat([angles.sin(), angles.cos()], dim=1)  # [grid, width / 2]
    rows = one.repeat_interleave(grid, dim=0)
    columns = one.repeat(grid, 1)
    return torch.cat([rows, columns], dim=1).float()


def patchify(images: Tensor, patch: int) -> Tensor:
    """[batch, height, width, 3] -> [batch, patches, patch * patch * 3], patches row by row."""
    x = images.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))  # [batch, rows, patch, columns, patch, 3]
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


class VisionTower(nn.Module):
    def __init__(self, model: Model):
        super().__init__()
        self.patch = model.patch
        area = model.patch**2
        self.embed = nn.Linear(3 * area, model.vision.width)
        self.transformer = Transformer(model.vision)
        self.register_buffer("mean", torch.tensor(MEAN).repeat(area), persistent=False)
        self.register_buffer("std", torch.tensor(STD).repeat(area), persistent=False)
        self.register_buffer("positions", sincos_positions(model.vision.width, model.grid), persistent=False)

    def normalize(self, patches: Tensor) -> Tensor:
        """uint8 pixels as floats of about unit variance, same shape."""
        return (patches - self.mean) / self.std

    def forward(self, images: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encoded patches [batch, kept, width] of uint8 images [batch, height, width, 3].

        Removed patches are dropped while they are still bytes: nothing is ever computed from them.
        """
        patches = patchify(images, self.patch)
        positions = self.positions
        if ids_keep is not None:
            patches = patches.take_along_dim(ids_keep[:, :, None], dim=1)
            positions = positions[ids_keep]
        return self.transformer(self.embed(self.normalize(patches)) + positions)
