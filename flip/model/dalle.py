"""Wrap DALL-E's image tokenizer (Ramesh et al. 2021), as transformers has its encoder, in place of one trained here.

FLAVA (section 3) and BEiT predict its codes. It reads 8 x 8 pixels per patch, whatever the model's patches are, with
bytes scaled to 0.1 to 0.9. FLAVA shrinks images with a Lanczos filter, which torch does not have: here it is an
antialiased bicubic one. The file has no decoder, so a code is shown as the mean of the patches that have it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.schema import Params
from flip.model.image_tokenizer import ImageTokenizer

SIZES: dict[str, Any] = {}  # other than those of transformers' FlavaImageCodebookConfig, which are DALL-E's
PIXELS = 8  # that become one code, along either axis


class DallE(ImageTokenizer):
    """Hold DALL-E's encoder and, in `entries` [codes, patch * patch * 3], the mean patch of each code.

    `encoder` is transformers' FlavaImageCodebook.
    """

    def __init__(self, params: Params):
        from transformers import FlavaImageCodebook, FlavaImageCodebookConfig  # takes seconds, for few

        super().__init__(params)
        codes = params.codebook.codes
        self.side = PIXELS * params.model.grid
        self.encoder = FlavaImageCodebook(FlavaImageCodebookConfig(vocab_size=codes, **SIZES))
        self.register_buffer("entries", torch.zeros(codes, 3 * self.patch**2))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float() / 255
        if x.shape[-1] != self.side:
            x = F.interpolate(x, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        return self.encoder.get_codebook_indices(0.8 * x + 0.1).flatten(1)

    def decode(self, entries: Tensor) -> Tensor:
        """Return the normalised pixels [batch, patches, patch * patch * 3] of entries, which are mean patches
        already."""
        return entries

    def fit(self, images: Tensor, codes: Tensor) -> None:
        """Compute mean patches from uint8 images [batch, height, width, 3] with these codes int64 [batch, patches]; a
        code that none of them has is shown grey."""
        pixels, codes = self.targets(images).flatten(0, 1), codes.flatten()
        sums = torch.zeros_like(self.entries).index_add_(0, codes, pixels)
        self.entries = sums / codes.bincount(minlength=len(sums)).clamp(min=1)[:, None]
