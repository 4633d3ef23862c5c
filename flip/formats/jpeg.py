"""Tell by a JPEG's header whether libjpeg alone decodes it as it is displayed, in a few microseconds."""

from flip.formats.images import is_plain

START, SCAN, FRAMES = b"\xff\xd8", 0xDA, {0xC0, 0xC1, 0xC2}
# EXIF or XMP (orientation), ICC (colours), Adobe (colour transform), and a byte of padding.
TELLING = {0xE1, 0xE2, 0xEE, 0xFF}


def is_plain_jpeg(encoded: bytes | memoryview) -> bool:
    """Tell whether it is a JPEG that every decoder shows alike; what only may be otherwise is looked at by Pillow.

    Raises:
        ValueError: as `is_plain`.
    """
    if encoded[:2] != START:
        return False
    place = 2
    while place + 10 <= len(encoded) and encoded[place] == 0xFF and (marker := encoded[place + 1]) != SCAN:
        unusual = marker in FRAMES and (encoded[place + 4] != 8 or encoded[place + 9] not in (1, 3))
        if unusual or marker in TELLING:
            return is_plain(bytes(encoded))
        place += 2 + (encoded[place + 2] << 8 | encoded[place + 3])
    return True
