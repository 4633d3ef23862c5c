"""Build the image tokenizer: one of so many codes per patch, which masked image modelling predicts (BEiT; FLAVA, sec.
3).

FLAVA takes DALL-E's discrete autoencoder, trained on other images. This one is trained in the pipeline: a vector-
quantised autoencoder (van den Oord et al. 2017) whose codes are moving averages of what is encoded as them, compared by
direction (ViT-VQGAN, Yu et al. 2022, section 3.2), so that most of them are in use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.model.transformer import initialize
from flip.model.vision import patchify, statistics, unpatchify


class ConvBlock(nn.Module):
    """Apply a residual 3 x 3 convolution to the grid of patches [batch, width, grid, grid]; the shape stays."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.near = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.near(self.norm(x)))


class ImageTokenizer(nn.Module):
    """Compute codes int64 [batch, patches], row by row, of uint8 images [batch, height, width, 3].

    Each code names one row of `entries`, from which `decode` makes normalised pixels.
    """

    mean: Tensor
    std: Tensor
    entries: Tensor

    def __init__(self, params: Params):
        super().__init__()
        self.patch = params.model.patch
        for name, value in zip(("mean", "std"), statistics(params.form.vision), strict=True):
            self.register_buffer(name, value.float().repeat(self.patch**2), persistent=False)

    def targets(self, images: Tensor) -> Tensor:
        """Return normalised pixels [batch, patches, patch * patch * 3] of uint8 images [batch, height, width, 3]."""
        return (patchify(images, self.patch) - self.mean) / self.std

    def decode(self, entries: Tensor) -> Tensor:
        """Decode entries [batch, patches, width] into normalised pixels [batch, patches, patch * patch * 3]."""
        raise NotImplementedError

    @torch.no_grad()
    def decode_images(self, codes: Tensor) -> Tensor:
        """Decode codes int64 [batch, patches] into uint8 images [batch, height, width, 3]."""
        pixels = self.decode(self.entries[codes]) * self.std + self.mean
        return unpatchify(pixels.round().clamp(0, 255).to(torch.uint8), self.patch)


class VQTokenizer(ImageTokenizer):
    """Hold a vector-quantised autoencoder of patches.

    Its `entries` [codes, code_width] are no parameters: training moves them by averages, not by gradients.
    """

    def __init__(self, params: Params):
        super().__init__(params)
        form, self.grid = params.codebook, params.model.grid
        pixels, width = 3 * self.patch**2, form.width
        self.embed, self.code = nn.Linear(pixels, width), nn.Linear(width, form.code_width)
        self.before = nn.Sequential(*(ConvBlock(width) for _ in range(form.blocks)))
        self.after = nn.Sequential(*(ConvBlock(width) for _ in range(form.blocks)))
        self.open, self.predict = nn.Linear(form.code_width, width), nn.Linear(width, pixels)
        self.register_buffer("entries", F.normalize(torch.randn(form.codes, form.code_width), dim=-1))
        self.apply(initialize)

    def _mix(self, blocks: nn.Module, x: Tensor) -> Tensor:
        """Apply blocks over the grid to tokens [batch, patches, width]."""
        x = x.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return blocks(x).flatten(2).transpose(1, 2)

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pixels [batch, patches, patch * patch * 3] as vectors of unit length [batch, patches, code_width]."""
        return F.normalize(self.code(self._mix(self.before, F.gelu(self.embed(pixels)))), dim=-1)

    def nearest(self, encoded: Tensor) -> Tensor:
        """Find the nearest codes, int64 [batch, patches], of vectors of unit length [batch, patches, code_width]."""
        return (encoded @ self.entries.T).argmax(dim=-1)

    def decode(self, entries: Tensor) -> Tensor:
        """Decode entries [batch, patches, code_width] into normalised pixels [batch, patches, patch * patch * 3]."""
        return self.predict(self._mix(self.after, F.gelu(self.open(entries))))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.nearest(self.encode(self.targets(images)))
