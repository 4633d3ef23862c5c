"""Read the tar files of a test set: images, and their annotations.

The files are not trusted. Nothing is decoded but images (flip.formats.images), and what `flip.formats.layout` reads by
itself.
"""

import io
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from flip.formats.tar_members import IMAGES, members


def read(file: BinaryIO, places: dict[str, tuple[int, int]], *extensions: str) -> dict[str, bytes]:
    """Return a sample's files by extension, from an open tar and its `members`; those of some extensions, if named."""
    content = {}
    for extension in places.keys() & set(extensions) if extensions else places:
        offset, size = places[extension]
        file.seek(offset)
        content[extension] = file.read(size)
    return content


def contents(tar: Path, *extensions: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield each sample's key and its files, as `read` gives them, in the order of the tar.

    Raises:
        ValueError: as `members`.
    """
    with open(tar, "rb") as file:
        for key, places in members(tar).items():
            yield key, read(file, places, *extensions)


def image_extension(files: Collection[str], where: str) -> str:
    """Return the extension of the image among those of a sample's files; `where` names the sample.

    Raises:
        ValueError: there is no image, or more than one: which would be evaluated, and which kept out of training?
    """
    found = [extension for extension in IMAGES if extension in files]
    if len(found) != 1:
        has = f"images .{' and .'.join(found)}" if found else "no image"
        raise ValueError(f"{where} has {has}; each sample needs one of .{', .'.join(IMAGES)}; export the set again")
    return found[0]


def encoded_image(content: dict[str, bytes], where: str) -> bytes:
    """Return the image among a sample's files, as it is stored. Raises ValueError as `image_extension`."""
    return content[image_extension(content, where)]


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member without a time or an owner, so that equal images make equal files."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
