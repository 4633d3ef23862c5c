"""Find the samples of a tar that others have written: in any order, with any faults, which are told and not fatal.

flip.formats.tar_members reads tars whose form is agreed upon and refuses all else. Here, members of equal key are one
sample wherever they stand, the first of each name counts, and what lies behind a cut or damage is lost. Only headers
are read: one after the other through a memory map for their sizes, then many at a time for checksums and names.
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flip.formats.tar_members import BLOCK, RECORD, split_name

FILE = ord("0")  # types of members
WITHOUT_CONTENT = b"123456"  # links, devices, folders: their headers may state a size all the same
LONG_NAME, LONG_LINK, PAX, GLOBAL, SPARSE = b"LKxgS"
SUM = 148  # where a header states its sum
DIGITS = 10  # of a member's number
ROWS = 4096  # headers that are looked at together
LOOKED_AT = 1 << 20  # bytes behind the end: two tars may be in one file
EIGHTS = 8 ** np.arange(5, -1, -1)

Place = tuple[int, int]  # offset and size of a member's content, in bytes
File = tuple[str, int, int]  # name and place


@dataclass
class FoundSamples:
    """Hold a tar's samples, {key: {extension: place}} in its order, and what is wrong with the tar.

    doubled: members that were there before, by extension; cut: key of the sample in which the tar ends too early;
    fault: why it does, in words.
    """

    samples: dict[str, dict[str, Place]] = field(default_factory=dict)
    doubled: Counter[str] = field(default_factory=Counter)
    cut: str | None = None
    fault: str | None = None


@contextmanager
def mapped(path: str | Path) -> Iterator[mmap.mmap | bytes]:
    """Give the content of a file, without reading it."""
    with open(path, "rb") as file:
        if file.seek(0, 2) == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def find_samples(content: mmap.mmap | bytes) -> FoundSamples:
    """Find the samples of a tar's content."""
    walk = Walk(content)
    found = FoundSamples(fault=walk.run())
    samples, total = found.samples, len(content)
    for name, offset, size in walk.files(found):
        if not (split := split_name(name)):
            continue
        key, extension = split
        if (sample := samples.get(key)) is None:
            sample = samples[key] = {}
        if offset + size > total:
            found.cut = key
        elif extension in sample:
            found.doubled[extension] += 1
        else:
            sample[extension] = offset, size
    return found


def numbered(extension: str, wanted: str) -> int | None:
    """Return the number of a member among those of one kind, as 1 of .1.txt, and 0 of .txt; None for another kind."""
    number, _, last = extension.rpartition(".")
    if extension == wanted:
        return 0
    is_number = number.isdecimal() and number.isascii() and len(number) < DIGITS
    return int(number) if last == wanted and is_number else None


class Walk:
    """Follow the headers of a tar's content: their places, and the bytes that each states.

    others: what is behind headers that are not a plain file's, by their number: a file all the same, or nothing.
    """

    def __init__(self, content: mmap.mmap | bytes):
        self.content, self.end = content, 0
        self.headers: list[int] = []
        self.sizes: list[int] = []
        self.others: dict[int, File | None] = {}
        self.said: dict[str, bytes] = {}  # of the next member, by headers before it

    def run(self) -> str | None:
        """Walk as far as there are headers; return why that is not as far as it should be."""
        content, total = self.content, len(self.content)
        try:
            while self.end + BLOCK <= total and content[self.end + SUM]:  # a name may be empty
                self._step(self.end)
        except (ValueError, IndexError):
            return f"damaged at byte {self.end:,}"
        if self.end > total:
            return "cut short"
        if self.end + BLOCK > total:
            return "without the mark at its end: cut between two files, or written so"
        if any(content[self.end : self.end + BLOCK]):
            return f"damaged at byte {self.end:,}"
        if content[self.end : self.end + LOOKED_AT].lstrip(b"\0"):
            return f"what follows its end, {total - self.end:,} bytes, is not read"
        return "its end is zeros, more than a tar has: cut short" if total - self.end > 2 * RECORD else None

    def _step(self, header: int) -> None:
        """Go past a header and its content. Raises ValueError or IndexError where it is none."""
        digits = self.content[header + 124 : header + 135]
        if self.content[header + 156] == FILE and digits.isdigit() and not self.said:
            size = int(digits, 8)
        else:
            size = self._other(header)
        self.headers.append(header)
        self.sizes.append(size)
        self.end = header + BLOCK + size + -size % BLOCK

    def _other(self, header: int) -> int:
        """Take a header that is not a plain file's; return the bytes behind it."""
        kind, size = self.content[header + 156], number(self.content[header + 124 : header + 136])
        file: File | None = None
        if kind in (LONG_NAME, LONG_LINK, PAX, GLOBAL):
            self._hear(kind, self.content[header + BLOCK : header + BLOCK + size])
        else:
            file, size = self._described(header, kind, size)
        if size < 0:
            raise ValueError
        self.others[len(self.headers)] = file
        return size

    def _hear(self, kind: int, said: bytes) -> None:
        if kind == LONG_NAME:
            self.said["path"] = said.split(b"\0", 1)[0]
        elif kind == PAX:
            self.said |= pax_records(said)

    def _described(self, header: int, kind: int, size: int) -> tuple[File | None, int]:
        """Return the file of a member that headers before it may speak of, None if it is none; and the bytes behind."""
        said, self.said = self.said, {}
        name = said.get("path") or short_name(self.content[header : header + BLOCK])
        size = int(said.get("size", size))
        if kind in WITHOUT_CONTENT or (kind == 0 and name.endswith(b"/")):
            return None, 0
        if kind == SPARSE or any(key.startswith("GNU.sparse") for key in said):
            return None, size + (self._sparse_map(header) if kind == SPARSE else 0)
        return (name.decode(errors="backslashreplace"), header + BLOCK, size), size

    def _sparse_map(self, header: int) -> int:
        """Return the bytes of the blocks between the header of a sparse file and its content."""
        more, extra = self.content[header + 482], 0
        while more:
            extra += BLOCK
            more = self.content[header + extra + 504]
        return extra

    def files(self, found: FoundSamples) -> Iterator[File]:
        """Yield the files as far as headers are whole; `found` is told of the first that is not."""
        blocks = np.frombuffer(self.content, np.uint8, len(self.content) // BLOCK * BLOCK).reshape(-1, BLOCK)
        places = np.array(self.headers, np.int64) // BLOCK
        for first in range(0, len(places), ROWS):
            headers = blocks[places[first : first + ROWS]]
            good = undamaged(headers)
            yield from self._named(headers[:good], first)
            if good < len(headers):
                found.fault = f"damaged at byte {self.headers[first + good]:,}"
                return

    def _named(self, headers: np.ndarray, first: int) -> Iterator[File]:
        names = headers[:, :100].copy().view("S100")[:, 0].tolist()
        for row in np.flatnonzero(headers[:, 345] | (headers[:, 99] > 0)).tolist():
            names[row] = short_name(headers[row].tobytes())
        for place, name in enumerate(names, first):
            if place not in self.others:
                text = (name.split(b"\0", 1)[0] if 0 in name else name).decode(errors="backslashreplace")
                yield text, self.headers[place] + BLOCK, self.sizes[place]
            elif file := self.others[place]:
                yield file


def short_name(header: bytes) -> bytes:
    """Return the name that a header itself has."""
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def undamaged(headers: np.ndarray) -> int:
    """Return how many of the headers, uint8 [n, BLOCK], there are before the first without the sum that it states."""
    sums = headers.sum(axis=1, dtype=np.int64) - headers[:, SUM : SUM + 8].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    stated = (headers[:, SUM : SUM + 6].astype(np.int64) - ord("0")) @ EIGHTS
    wrong = (row for row in np.flatnonzero(sums != stated).tolist() if not is_checked(headers[row].tobytes()))
    return next(wrong, len(headers))


def is_checked(header: bytes) -> bool:
    """Tell whether a header has the sum that it states in any form, of bytes with or without a sign."""
    rest = np.frombuffer(header[:SUM] + b" " * 8 + header[SUM + 8 :], np.uint8)
    try:
        return number(header[SUM : SUM + 8]) in (rest.sum(dtype=np.int64), rest.view(np.int8).sum(dtype=np.int64))
    except ValueError:
        return False


def number(raw: bytes) -> int:
    """Read a number of a header: octal digits, or from 8 GB on binary. Raises ValueError where it is none."""
    if raw[:1] == b"\x80":
        return int.from_bytes(raw[1:])
    return int(raw.split(b"\0", 1)[0].strip() or b"0", 8)


def pax_records(content: bytes) -> dict[str, bytes]:
    """Read records `length key=value`. Raises ValueError where they are none."""
    found, place = {}, 0
    while place < len(content) and content[place]:
        length, space, _ = content[place : place + 20].partition(b" ")
        size = int(length)
        if not space or size <= len(length) + 1:
            raise ValueError
        key, _, value = content[place + len(length) + 1 : place + size - 1].partition(b"=")
        found[key.decode()] = value
        place += size
    return found
