"""Make img2dataset decode images as browsers display them."""

import io
from typing import IO

from img2dataset.resizer import Resizer

from flip.formats.images import decode, is_plain


class DisplayedResizer(Resizer):
    """Resize as img2dataset's Resizer, which by itself ignores orientation and saturates more than 8 bits per channel.

    Plain images reach it as they came. The processes that img2dataset starts find this class by its name.
    """

    def __call__(self, img_stream: IO[bytes], blurring_bbox_list: list | None = None) -> tuple:
        try:
            encoded = img_stream.read()
            if not is_plain(encoded):
                encoded = _lossless(encoded)
        except ValueError as error:
            return None, None, None, None, None, f"Image decoding error: {error}"
        return super().__call__(io.BytesIO(encoded), blurring_bbox_list)


def _lossless(encoded: bytes) -> bytes:
    """Encode the image as displayed, in a format that is fast to write and to read."""
    file = io.BytesIO()
    decode(encoded).save(file, "PPM")
    return file.getvalue()
