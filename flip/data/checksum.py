"""Write and read files that end in a SHA-256 of their content, so that a changed bit is noticed before it is used.

The digest is written with the content, at once. Readers of torch's files and of arrays stop before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from flip.files import atomic

MARK = b"\nsha256 "
BLOCK = 1 << 20  # bytes read at a time
TRAILER = len(MARK) + 64 + 1  # bytes: the mark, the digest, the end of the line


class Digest(Protocol):
    """Describe a hash of hashlib."""

    def hexdigest(self) -> str: ...


class Hashing:
    """Write a binary file from its beginning to its end, and hash what is written."""

    def __init__(self, file: IO[bytes], identity: str):
        self.file, self.flush, self.digest = file, file.flush, sha256(identity.encode())

    def write(self, content: bytes | bytearray | memoryview) -> int:
        """Write and hash content; return the number of bytes."""
        self.digest.update(content)
        return self.file.write(content)


@contextmanager
def checked(path: str | Path, identity: str | None = None) -> Iterator[Hashing]:
    """Give a file object whose content appears at `path` at once when the block ends, with its digest, or not at all.

    `identity` (default: the file's name) goes into the digest, so that no other file can stand in for this one.
    """
    with atomic(path) as file:
        hashing = Hashing(file, identity or Path(path).name)
        yield hashing
        file.write(MARK + hashing.digest.hexdigest().encode() + b"\n")


def _compare(digest: Digest, trailer: bytes) -> None:
    if not trailer.startswith(MARK):
        raise ValueError("no SHA-256 at its end: cut short, or written by an earlier version")
    if trailer != MARK + digest.hexdigest().encode() + b"\n":
        raise ValueError("its content is not what its SHA-256 says: bits have changed, or it is another file renamed")


def check(path: str | Path, identity: str | None = None) -> int:
    """Read through a file that `checked` has written, before it is memory-mapped; return the bytes before its digest.

    Raises:
        ValueError: it has no digest, or holds something else than what was written under this identity.
        OSError: it cannot be read.
    """
    digest, body = sha256((identity or Path(path).name).encode()), max(Path(path).stat().st_size - TRAILER, 0)
    with open(path, "rb") as file:
        for start in range(0, body, BLOCK):
            digest.update(file.read(min(BLOCK, body - start)))
        _compare(digest, file.read())
    return body


def read_checked(path: str | Path, identity: str | None = None) -> bytes:
    """Read a file that `checked` has written, without its digest.

    Raises:
        ValueError: as `check`.
        OSError: as `check`.
    """
    content, digest = Path(path).read_bytes(), sha256((identity or Path(path).name).encode())
    digest.update(memoryview(content)[:-TRAILER])
    _compare(digest, content[-TRAILER:])
    return content[:-TRAILER]
