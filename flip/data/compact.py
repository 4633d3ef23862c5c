"""Resize images to what training needs: fewer bytes to store, and less to decode in each epoch."""

import numpy as np
import simplejpeg
from PIL import Image

from flip.config.schema import Compact
from flip.formats.images import decode, displayed_size, is_plain


def resize_jpeg(encoded: bytes, compact: Compact, name: str = "image") -> bytes:
    """Encode an image as a JPEG whose shorter side is `compact.image_size`; return one that is no larger, and plain, as
    it is.

    Chroma is not subsampled: halved, as in most JPEGs, it would lose at a small size what the model sees.

    Raises:
        ValueError: it cannot be decoded; `name` is for the message.
    """
    share = min(compact.image_size / min(displayed_size(encoded, name)), 1)
    if share == 1 and is_plain(encoded):
        return encoded
    image = decode(encoded, name).convert("RGB")
    small = image.resize([round(edge * share) for edge in image.size], Image.Resampling.BICUBIC)
    return simplejpeg.encode_jpeg(np.asarray(small), compact.quality, "RGB", "444")
