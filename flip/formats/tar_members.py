"""Find the members of a tar as webdataset groups them into samples, without unpacking it.

Imports no numpy, as every dry run loads it.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

BLOCK, RECORD = 512, 10240  # a tar's unit, and the unit that its end is padded to
IMAGES = ("jpg", "jpeg", "png", "webp")  # extensions


RESERVED = re.compile(r"__[^/]*__($|/)")  # names that webdataset keeps for itself
NO_TAR = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)  # what tarfile makes of one


def split_name(name: str) -> tuple[str, str] | None:
    """Split a member's name into key and extension, in lower case, as webdataset does; None for one that it skips.

    The key ends at the first dot of the last path component. Folders belong to it, dots in their names and `./` too.
    """
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    if stem and dot:
        return f"{folder}{slash}{stem}", extension.lower()
    if slash and dot and "." not in folder.rpartition("/")[2]:
        return f"{folder}/", extension.lower()  # a hidden file counts as the folder's own
    return None


def _files(tar: str | Path) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar's files, in order.

    Raises:
        ValueError: the file is no tar, or ends within a member.
    """
    with open(tar, "rb") as raw:
        try:
            with tarfile.open(fileobj=raw, mode="r:") as file:
                for member in iter(file.next, None):
                    file.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it has seen
                    if member.size < 0:  # leads tarfile back to where it has been, for ever
                        raise tarfile.ReadError
                    if member.isreg():
                        yield member
                end = file.offset
        except NO_TAR:
            end = raw.seek(0, os.SEEK_END)
        # Past its first member, tarfile takes a damaged or missing header for the end of the file.
        raw.seek(end)
        if raw.read(2 * BLOCK) != bytes(2 * BLOCK):
            raise ValueError(f"{tar}: not a whole tar; delete it and run the stage that makes it again")


def members(tar: str | Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Map keys to samples of a tar, in its order, as webdataset groups them: {key: {extension: (offset, size)}} in
    bytes.

    Raises:
        ValueError: as `_files`; or members that webdataset would refuse, overwrite or take for another sample.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    last = None
    for member in _files(tar):
        name = member.name
        if (name.startswith("__") and RESERVED.match(name)) or not (found := split_name(name)):
            continue
        key, extension = found
        if key != last:
            if key in samples:
                raise _refusal(tar, member, f"sample {key!r} began before, and others came between")
            samples[key], last = {}, key
        if extension in (sample := samples[key]):
            raise _refusal(tar, member, f"sample {key!r} has a .{extension} already")
        if extension.startswith("__") or "\n" in name or member.sparse:
            raise _refusal(tar, member, "a sparse file, or a name with a line end or an extension that begins with __")
        sample[extension] = member.offset_data, member.size
    return samples


def _refusal(tar: str | Path, member: tarfile.TarInfo, why: str) -> ValueError:
    remedy = "write the tar again, each sample's files together, under a key of its own and plain names"
    return ValueError(f"{tar}: {member.name!r}: {why}; {remedy}")
