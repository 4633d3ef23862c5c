"""The image tokenizer: one of so many codes per patch, which masked image modelling predicts (BEiT; FLAVA, section 3).

FLAVA takes DALL-E's discrete autoencoder, trained on other pictures. This one is trained in the pipeline: a vector-
quantised autoencoder (van den Oord et al. 2017) whose codes are moving averages of what is encoded as them, compared by
direction (ViT-VQGAN, Yu et al. 2022, section 3.2), so that most of them are in use.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.model.transformer import initialize
from flip.model.vision import patchify, statistics, unpatchify
from flip.model.weights import load_weights


class Mix(nn.Module):
    """A residual 3 x 3 convolution over the grid of patches [batch, width, grid, grid]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.near = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.near(self.norm(x)))


class ImageTokenizer(nn.Module):
    """Gives codes int64 [batch, patches], row by row, of uint8 images [batch, height, width, 3]; each names one of
    `entries`, of which `decode` makes normalised pixels."""

    def __init__(self, params: Params):
        super().__init__()
        self.patch = params.model.patch
        for name, value in zip(("mean", "std"), statistics(params.form.vision), strict=True):
            self.register_buffer(name, value.float().repeat(self.patch**2), persistent=False)

    def targets(self, images: Tensor) -> Tensor:
        """Normalised pixels [batch, patches, patch * patch * 3] of uint8 images [batch, height, width, 3]."""
        return (patchify(images, self.patch) - self.mean) / self.std

    @torch.no_grad()
    def pictures(self, codes: Tensor) -> Tensor:
        """What codes [batch, patches] show: uint8 [batch, height, width, 3]."""
        pixels = self.decode(self.entries[codes]) * self.std + self.mean
        return unpatchify(pixels.round().clamp(0, 255).to(torch.uint8), self.patch)


class Codebook(ImageTokenizer):
    """`entries` [codes, code_width] are no parameters: training moves them by averages, not by gradients."""

    def __init__(self, params: Params):
        super().__init__(params)
        form, self.grid = params.codebook, params.model.grid
        pixels, width = 3 * self.patch**2, form.width
        self.embed, self.code = nn.Linear(pixels, width), nn.Linear(width, form.code_width)
        self.before = nn.Sequential(*(Mix(width) for _ in range(form.blocks)))
        self.after = nn.Sequential(*(Mix(width) for _ in range(form.blocks)))
        self.open, self.predict = nn.Linear(form.code_width, width), nn.Linear(width, pixels)
        self.register_buffer("entries", F.normalize(torch.randn(form.codes, form.code_width), dim=-1))
        self.apply(initialize)

    def _mix(self, blocks: nn.Module, x: Tensor) -> Tensor:
        """Blocks over the grid, for tokens [batch, patches, width]."""
        x = x.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return blocks(x).flatten(2).transpose(1, 2)

    def encode(self, pixels: Tensor) -> Tensor:
        """[batch, patches, patch * patch * 3] -> directions [batch, patches, code_width]."""
        return F.normalize(self.code(self._mix(self.before, F.gelu(self.embed(pixels)))), dim=-1)

    def nearest(self, encoded: Tensor) -> Tensor:
        """Codes int64 [batch, patches] of directions [batch, patches, code_width]."""
        return (encoded @ self.entries.T).argmax(dim=-1)

    def decode(self, entries: Tensor) -> Tensor:
        """[batch, patches, code_width] -> pixels [batch, patches, patch * patch * 3]."""
        return self.predict(self._mix(self.after, F.gelu(self.open(entries))))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.nearest(self.encode(self.targets(images)))


def new_tokenizer(params: Params) -> ImageTokenizer:
    """One of the kind that the scale has: its own, or DALL-E's."""
    if not params.codebook.weights:
        return Codebook(params)
    from flip.model.dalle import DallE

    return DallE(params)


def codebook_path(params: Params, data: Path) -> Path | None:
    """Where the scale's image tokenizer lies, if a loss reads its codes.

    Raises:
        ValueError: it is not there.
    """
    if not params.flava.reads_codes:
        return None
    path = Path(data) / "codebook" / "weights.safetensors"
    if not path.exists():
        raise ValueError(
            f"{path}: not here, though flava.mim or flava.mmm_image reads codes; run flip.train.image_tokenizer first"
        )
    return path


def untrained(params: Params) -> ImageTokenizer:
    """Build an image tokenizer whose codes say nothing, frozen: where work is counted, or nothing is learned."""
    with torch.random.fork_rng(devices=[]):
        return new_tokenizer(params).requires_grad_(False)


def load_codebook(params: Params, data: Path, device) -> ImageTokenizer | None:
    """The scale's image tokenizer, frozen, if a loss reads its codes.

    Raises:
        ValueError: it is not there, or is one for other pictures or patches.
    """
    if (path := codebook_path(params, data)) is None:
        return None
    codebook = new_tokenizer(params)
    load_weights(path, codebook)
    return codebook.to(device).eval().requires_grad_(False)
