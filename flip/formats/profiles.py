"""Convert the colours of an image that carries an ICC profile to sRGB, in which all others are taken to be."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # by the colour space of a profile
OWN = {"1": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGBA": "RGB"}  # in which a profile sees an image's colours
KNOWN = 64  # profiles in memory: most images share a few
LARGEST = 4 << 20  # bytes; those of printers have some two million
ROUNDING = 2  # levels of 255 by which those who write sRGB as a profile differ from each other
STEPS = np.linspace(0, 255, 9).astype(np.uint8)


@lru_cache(KNOWN)
def to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of an image's colours, from its `mode` without alpha to RGB; None where nothing is to be
    done: no profile, sRGB's own, one of another number of channels, or a broken one, which browsers ignore, too."""
    if not profile or len(profile) > LARGEST:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        wanted = MODES.get(source.profile.xcolor_space.strip())
        if wanted != OWN.get(mode, mode):
            return None
        # Optimised, lcms2 interpolates between few of a grey's levels: dark ones are off by 8 of 255.
        flags = ImageCms.Flags.NOOPTIMIZE if wanted == "L" else ImageCms.Flags.NONE
        found = ImageCms.buildTransform(source, SRGB, wanted, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return found if wanted == "CMYK" or _changes(found, wanted) else None


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Tell whether a transform of grey or RGB gives other colours than it is given."""
    axes = [STEPS] * (1 if mode == "L" else 3)
    colours = np.stack(np.meshgrid(*axes), axis=-1).reshape(1, -1, len(axes))
    given = Image.fromarray(colours[..., 0] if mode == "L" else colours)
    found = np.asarray(transform.apply(given)).astype(int)
    return int(np.abs(found - np.asarray(given.convert("RGB"))).max()) > ROUNDING


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image with the colours that its profile says it has, in sRGB: as it is, or grey or RGB, with its
    alpha."""
    if not (transform := to_srgb(profile, image.mode)):
        return image
    own = OWN.get(image.mode, image.mode)
    found = transform.apply(image.convert(own)).convert("L" if own == "L" else "RGB")
    if image.has_transparency_data:
        found.putalpha(image.convert("RGBA").getchannel("A"))
    return found
