"""Files that end in a SHA-256 of all that they hold, so that a changed bit is noticed before it is computed with.

The digest is written with the content, at once. Readers of torch's files and of arrays stop before it.
"""

from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from flip.files import atomic

MARK = b"\nsha256 "
TRAILER = len(MARK) + 64 + 1  # bytes: the mark, the digest, the end of the line


class Hashing:
    """A binary file that is written from its beginning to its end, with the digest of what went through."""

    def __init__(self, file, identity: str):
        self.file, self.flush, self.digest = file, file.flush, sha256(identity.encode())

    def write(self, content) -> int:
        self.digest.update(content)
        return self.file.write(content)


@contextmanager
def checked(path, identity: str | None = None):
    """Opens a file whose content appears at `path` at once when the block ends, with its digest, or not at all.

    `identity` (default: the file's name) goes into the digest, so that no other file can stand in for this one.
    """
    with atomic(path) as file:
        hashing = Hashing(file, identity or Path(path).name)
        yield hashing
        file.write(MARK + hashing.digest.hexdigest().encode() + b"\n")


def read_checked(path, identity: str | None = None) -> bytes:
    """Reads a whole file that `checked` has written, its digest at the end.

    Raises:
        ValueError: it has no digest, or holds something else than what was written under this identity.
        OSError: it cannot be read.
    """
    content, digest = Path(path).read_bytes(), sha256((identity or Path(path).name).encode())
    body, trailer = memoryview(content)[:-TRAILER], content[-TRAILER:]
    if not trailer.startswith(MARK):
        raise ValueError("no SHA-256 at its end: cut short, or written by an earlier version")
    digest.update(body)
    if trailer != MARK + digest.hexdigest().encode() + b"\n":
        raise ValueError("its content is not what its SHA-256 says: bits have changed, or it is another file renamed")
    return content
