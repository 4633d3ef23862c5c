"""What lies in the tars of a test set: pictures, and what stands beside each."""

from collections.abc import Iterator
from pathlib import Path

from flip.data.index import PICTURES, members


def contents(tar: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each sample's key and its files by extension, in the order of the tar."""
    with open(tar, "rb") as file:
        for key, files in sorted(members(tar).items(), key=lambda item: min(item[1].values())):
            content = {}
            for extension, (offset, size) in files.items():
                file.seek(offset)
                content[extension] = file.read(size)
            yield key, content


def encoded_picture(content: dict[str, bytes]) -> bytes | None:
    """The picture among a sample's files, as it is stored; None where there is none."""
    return next((content[extension] for extension in PICTURES if extension in content), None)
