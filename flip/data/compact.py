"""Pictures at the size that training needs: fewer bytes to store, and less to decode in each epoch."""

from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image

from flip.schema import Compact


def compacted(picture: bytes, compact: Compact) -> bytes:
    """A picture as a JPEG with the shorter side that is asked for; one that is no larger is given back as it is.

    Colour keeps all of its pixels: halved, as JPEGs mostly have it, it would lose at a small size what the model sees.
    """
    with Image.open(BytesIO(picture)) as image:
        share = compact.image_size / min(image.size)
        if share >= 1:
            return picture
        size = [round(edge * share) for edge in image.size]
        small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return simplejpeg.encode_jpeg(np.asarray(small), compact.quality, "RGB", "444")
