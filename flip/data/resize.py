"""What img2dataset makes of an image's bytes: it sees the image as browsers display it."""

import io

from img2dataset.resizer import Resizer

from flip.data.images import decode, is_plain


class DisplayedResizer(Resizer):
    """img2dataset's Resizer, which by itself ignores orientation and saturates what has more than 8 bits.

    Plain images reach it as they came. It is found by its name in the processes that img2dataset starts.
    """

    def __call__(self, img_stream, blurring_bbox_list=None):
        try:
            encoded = img_stream.read()
            if not is_plain(encoded):
                encoded = _lossless(encoded)
        except ValueError as error:
            return None, None, None, None, None, f"Image decoding error: {error}"
        return super().__call__(io.BytesIO(encoded), blurring_bbox_list)


def _lossless(encoded: bytes) -> bytes:
    """The image as displayed, in a form that takes no time to write and to read."""
    file = io.BytesIO()
    decode(encoded).save(file, "PPM")
    return file.getvalue()
