"""Decode images as browsers display them: all images that others have encoded, for training and for tests.

- Orientation: EXIF's is applied (XMP's where EXIF has none), so that sizes and boxes refer to the image as displayed. -
Depth: channels of 16 bits are scaled by 255 / 65535. Floats and integers of 32 bits do not say what white is, and are
  refused.
- Transparency: on white, as img2dataset does. - Animations: their first frame.
- Colour: converted from the ICC profile to sRGB (flip.formats.profiles). CMYK is taken to be inverted, as Adobe writes
  JPEGs. What a PNG says of gamma and primaries outside a profile is not read.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.Image import Transpose

from flip.formats.profiles import in_srgb, to_srgb

# Pillow would tell the log of each image what of it is odd, yet can be read: EXIF that is cut, a palette too long.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_PIXELS = 50_000_000  # at most: to decode that many takes 0.6 GB
# Those that browsers and OpenCV know: among Pillow's others are some that start programs. Not JPEG 2000, of
# whose colours of 16 bits Pillow makes black where they are white.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
# What is an image to others, and by which bytes it begins.
NOT_READ = {
    "HEIC": rb".{4}ftyp(heic|heix|hevc|heim|heis|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "SVG": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg",
}
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}  # by EXIF's orientation
WHITE = 65535
TO_8_BITS = ((np.arange(WHITE + 1) + 128) // 257).astype(np.uint8)
# By Pillow's raw mode: what it makes of a sample of fewer or more bits than 8, but not of the colour said to be clear.
RESCALED = {"L;2": lambda value: value * 85, "L;4": lambda value: value * 17, "RGB;16B": lambda value: value >> 8}


@contextmanager
def _opened(encoded: bytes, name: str) -> Iterator[ImageFile.ImageFile]:
    """Open an image before its pixels are decoded; whatever then goes wrong is a ValueError."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, allowed: {MAX_PIXELS:,}")
            yield image
    except UnidentifiedImageError:
        found = next((kind for kind, start in NOT_READ.items() if re.match(start, encoded[:1024], re.DOTALL)), None)
        why = f"of a format that is not read, {found}; read are" if found else "its format is none of"
        raise ValueError(f"{name}: cannot be read as an image ({why} {', '.join(FORMATS)})") from None
    except Exception as error:  # on what is broken, Pillow's decoders stumble in ways of their own
        raise ValueError(f"{name}: cannot be read as an image ({str(error) or type(error).__name__})") from None


def _orientation(image: Image.Image) -> int:
    """Read EXIF's orientation, 1 to 8; 1 where there is none, or none that can be read."""
    if not _is_jpeg(image):
        image.load()  # turns a TIFF, and finds what a PNG says behind its pixels
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return found if found in TURNS else 1
    except Exception:  # as in _opened
        return 1


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")  # cameras put several images into one file


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return how samples are stored, which is known until they are decoded."""
    found = image.tile[0].args if image.tile else ""
    return str(found[0] if isinstance(found, tuple) and found else found)


def _grey(image: Image.Image, raw_mode: str) -> Image.Image:
    """Convert an image of integers to 8 bits, mode L, or LA where it has a transparent colour.

    Raises:
        ValueError: which number is white is not known.
    """
    # Pillow inverts, and stretches, those of up to 8 bits alone.
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    inverted = image.format == "TIFF" and not tags.get(ExifTags.Base.PhotometricInterpretation)
    if inverted or raw_mode == "I;12" or (image.mode == "I" and image.format != "PPM"):
        raise ValueError(f"samples of an unknown range, {raw_mode}")
    values = np.asarray(image)
    grey = Image.fromarray(TO_8_BITS[values])
    if (clear := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _on_white(image: Image.Image, raw_mode: str, profile: bytes | None) -> Image.Image:
    clear, rescaled = image.info.get("transparency"), RESCALED.get(raw_mode)
    if rescaled and clear is not None:
        image.info["transparency"] = tuple(map(rescaled, clear)) if isinstance(clear, tuple) else rescaled(clear)
    # A grey's own profile sees grey.
    image = in_srgb(image if image.mode == "LA" else image.convert("RGBA"), profile).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def decode(encoded: bytes, name: str = "image") -> Image.Image:
    """Decode an image as it is displayed: 8 bits a channel, mode L or RGB.

    Raises:
        ValueError: it cannot be decoded, has more than MAX_PIXELS, or a depth without a white; `name` is for the
            message.
    """
    with _opened(encoded, name) as opened:
        raw_mode, turn = _raw_mode(opened), TURNS.get(_orientation(opened))
        image, profile = cast(Image.Image, opened), opened.info.get("icc_profile")
        if image.mode == "F":
            raise ValueError("samples of an unknown range, F")
        if image.mode.startswith("I"):
            image = _grey(image, raw_mode)
        image = _on_white(image, raw_mode, profile) if image.has_transparency_data else in_srgb(image, profile)
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
        return image if turn is None else image.transpose(turn)


def displayed_size(encoded: bytes, name: str = "image") -> tuple[int, int]:
    """Return width and height as displayed, in pixels; of a JPEG by its header alone.

    Raises:
        ValueError: as `decode`.
    """
    with _opened(encoded, name) as image:
        turned = _orientation(image) > 4
        return image.size[::-1] if turned else image.size


def is_plain(encoded: bytes, name: str = "image") -> bool:
    """Tell whether every decoder shows the image alike: JPEG, PNG or WebP, upright, of one frame, grey or RGB of 8
    bits, in sRGB.

    Of a JPEG, only the header is read.

    Raises:
        ValueError: it is no image, or has more than MAX_PIXELS.
    """
    with _opened(encoded, name) as image:
        deep, jpeg = "16" in _raw_mode(image), _is_jpeg(image)
        known = jpeg or (image.format in ("PNG", "WEBP") and not getattr(image, "is_animated", False))
        upright = known and _orientation(image) == 1
        simple = image.mode in ("L", "RGB") and not image.has_transparency_data
        return upright and not deep and simple and not to_srgb(image.info.get("icc_profile"), image.mode)
