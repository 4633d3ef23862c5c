"""Images as strangers encode them, made by hand or by Pillow."""

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image

UNTURNED = {  # EXIF's orientation -> how an upright image is stored under it, by the definition of the eight
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[:, ::-1],
}


def pattern(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth coloured pattern of its own, uint8 [height, width, 3]."""
    coarse = np.random.default_rng(number).integers(0, 256, (12, 18, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, kind: str = "JPEG", **options) -> bytes:
    """An array, or an image of Pillow's, as a file."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def turned(image: np.ndarray, orientation: int, kind: str = "JPEG", **options) -> bytes:
    """An upright image as a camera stores it that was held otherwise."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(UNTURNED[orientation](image), kind, exif=exif, **options)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def shorts(*values: int) -> bytes:
    return b"".join(struct.pack(">H", value) for value in values)


def png(row: bytes, bits: int, colour: int, width: int = 2, height: int = 1, **chunks: bytes) -> bytes:
    """A PNG of equal rows; `colour` is its colour type, `chunks` stand before its pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    header += b"".join(_chunk(name.encode(), content) for name, content in chunks.items())
    pixels = zlib.compress((b"\0" + row) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def png16(image: np.ndarray) -> bytes:
    """uint8 [height, width] or [height, width, 3 or 4] as a PNG of 16 bits that shows the same."""
    height, width = image.shape[:2]
    colour = {2: 0, 3: 2, 4: 6}[image.shape[-1] if image.ndim == 3 else 2]
    rows = (image.astype(">u2") * 257).astype(">u2").reshape(height, -1)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def icc(space: bytes, **tags: bytes) -> bytes:
    """A colour profile of a monitor (ICC.1, sections 7.2 and 7.3) of these tags; `space` has four letters."""
    start, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return (header + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


D50 = xyz(0.9642, 1, 0.8249)
# Linear light in sRGB's own primaries, by ICC's D50; red and blue change places in SWAPPED.
PRIMARIES = [xyz(0.4361, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7141)]


def profile(primaries: list[bytes], power: float) -> bytes:
    names = dict(zip(("rXYZ", "gXYZ", "bXYZ"), primaries, strict=True))
    return icc(b"RGB ", wtpt=D50, **names, **dict.fromkeys(("rTRC", "gTRC", "bTRC"), gamma(power)))


LINEAR, SWAPPED = profile(PRIMARIES, 1), profile(PRIMARIES[::-1], 2.2)
LINEAR_GREY = icc(b"GRAY", wtpt=D50, kTRC=gamma(1))
