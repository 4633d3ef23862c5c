"""Decode images on the GPU: nvJPEG through torchcodec, whose decoder hardware costs the training step nothing."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.schema import Params
from flip.data.crops import crop_box
from flip.data.loader import CROP, Batch, ImageReader, Place
from flip.formats.jpeg import is_plain_jpeg
from flip.rng import uniform

Decode = Callable[..., list[Tensor]]

END = b"\xff\xd9"  # of a JPEG; hardware decoders do not report that the rest is missing


def resize_crop(image: Tensor, box: tuple[int, int, int, int], side: int) -> Tensor:
    """Resize a crop of uint8 [3, height, width] to uint8 [side, side, 3], as flip.data.crops.resize does: along rows
    first, rounding in between.

    `box` is top, left, height and width in pixels.
    """
    top, left, rows, columns = box
    found = image[None, :, top : top + rows, left : left + columns].float()
    for size in (rows, side), (side, side):
        found = F.interpolate(found, size, mode="bicubic", antialias=True).round().clamp(0, 255)
    return found[0].permute(1, 2, 0).byte()


class GpuImageReader(ImageReader):
    """Read images as the parent does, onto a device, where `decode(jpegs, device=)` returns a list of uint8 [3, height,
    width].

    Pixels differ from the parent's by what decoders differ by: a few of 255, as that one decodes fast, and at a reduced
    size where it can. A batch with an image that `decode` refuses is read by the parent, which replaces it.
    """

    def __init__(self, decode: Decode, device: str | torch.device, *images: Any):
        super().__init__(*images)
        self.decode, self.device = decode, torch.device(device)

    def __call__(self, positions: Tensor) -> tuple[Batch, list[Place]]:
        places = [self.order.locate(position) for position in positions.tolist()]
        jpegs = [bytes(self.shards.encoded(place)) for place in places]
        try:
            if not all(jpeg.endswith(END) and is_plain_jpeg(jpeg) for jpeg in jpegs):
                raise RuntimeError("an image is cut short, or no JPEG that is displayed as it is stored")
            return {"images": self._images(jpegs, positions)}, places
        except (RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            return super().__call__(positions)

    def _images(self, jpegs: list[bytes], positions: Tensor) -> Tensor:
        """Decode and crop, uint8 [batch, side, side, 3]."""
        if self.device.type != "cuda":
            return self._crops(jpegs, positions)
        stream = torch.cuda.Stream(self.device)  # beside the step, whose stream would make one wait for the other
        with torch.cuda.stream(stream):
            images = self._crops(jpegs, positions)
        stream.synchronize()
        images.record_stream(torch.cuda.current_stream(self.device))
        return images

    def _crops(self, jpegs: list[bytes], positions: Tensor) -> Tensor:
        draws = uniform(self.seed, "augmentation", positions, CROP).numpy()
        images = torch.stack(
            [self._crop(*one) for one in zip(self.decode(jpegs, device=self.device), draws, strict=True)]
        )
        if not self.augmentation.flip:
            return images
        mirrored = torch.from_numpy(draws[:, 0] < 0.5).to(self.device)
        return torch.where(mirrored[:, None, None, None], images.flip(2), images)

    def _crop(self, image: Tensor, draws: np.ndarray) -> Tensor:
        height, width = image.shape[1:]
        return resize_crop(image, crop_box(height, width, self.augmentation, draws[1:].reshape(-1, 4)), self.side)


def gpu_decoder(params: Params, device: str | torch.device, views: bool) -> Decode | None:
    """Return the function that decodes a run's images on the GPU; None, with a warning, where that is impossible."""
    reason = _hindrance(params, device, views)
    if not reason:
        try:
            from torchcodec.decoders import decode_jpeg  # late: an extra, which few machines have

            return decode_jpeg
        except (ImportError, OSError) as error:
            reason = f"torchcodec 0.16 or newer does not load here ({error}); pip install 'flip[gpu]'"
    warnings.warn(f"train.decoder: gpu: {reason}; the processor decodes", stacklevel=2)
    return None


def _hindrance(params: Params, device: str | torch.device, views: bool) -> str | None:
    if torch.device(device).type != "cuda":
        return "no GPU is available"
    if views or params.noise.images:
        return "views of images and noise in place of them are made by the processor"
    return None
