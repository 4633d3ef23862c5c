"""Where each sample lies in a tar: an array beside the file, so that reading a sample takes no walk through headers,
and no copy.
"""

import mmap
import os
import tarfile
from pathlib import Path

import numpy as np

from flip.files import atomic

BLOCK, RECORD = 512, 10240  # a tar's unit, and the unit that its end is padded to
PICTURES = ("jpg", "jpeg", "png", "webp")  # extensions


def members(tar) -> dict[str, dict[str, tuple[int, int]]]:
    """Samples of a webdataset tar by key, keys sorted: {key: {extension: (offset, size)}} in bytes.

    Raises:
        ValueError: the file is no tar, or ends within a member.
    """
    samples, end = {}, 0
    with open(tar, "rb") as raw:
        try:
            with tarfile.open(fileobj=raw, mode="r:") as file:
                for member in file:
                    key, extension = member.name.split(".", 1)
                    samples.setdefault(key, {})[extension] = member.offset_data, member.size
                    end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                    file.members = []  # tarfile keeps every header it has seen
        except tarfile.TarError:
            end = raw.seek(0, os.SEEK_END)
        # Past its first member, tarfile takes a damaged or missing header for the end of the file.
        raw.seek(end)
        if raw.read(2 * BLOCK) != bytes(2 * BLOCK):
            raise ValueError(f"{tar}: not a whole tar; delete it and run the stage that makes it again")
    return dict(sorted(samples.items()))


def index_path(tar) -> Path:
    return Path(tar).with_suffix(".index.npy")


def write_index(tar) -> int:
    """Writes the index of a shard and gives its number of samples.

    Raises:
        ValueError: as `members`.
    """
    rows = [(*sample["jpg"], *sample["txt"]) for sample in members(tar).values()]
    with atomic(index_path(tar)) as file:
        np.save(file, np.array(rows, dtype=np.int64).reshape(-1, 4))
    return len(rows)


def tar_size(index: np.ndarray) -> int:
    """Bytes of the shard that an index describes: its last member, two empty blocks, padding."""
    end = int((index[:, 2] + index[:, 3]).max(initial=0))
    blocks = -(-end // BLOCK) + 2
    return -(-blocks * BLOCK // RECORD) * RECORD


def remedy(tar) -> str:
    """What to do about a shard that is not right."""
    folder = Path(tar).parent
    return (
        f"`dvc checkout {folder}` brings back what DVC has recorded; otherwise delete {folder} and {folder}.json, then "
        "run the pipeline again"
    )


def check_size(tar, expected: int) -> None:
    """Whether a shard is there and whole.

    Raises:
        ValueError: it is missing, or has another size.
    """
    tar = Path(tar)
    if not tar.exists():
        raise ValueError(f"{tar}: missing; {remedy(tar)}")
    if (found := tar.stat().st_size) != expected:
        raise ValueError(f"{tar}: {expected} bytes expected, {found} found, so it is not whole: {remedy(tar)}")


def read_index(tar) -> np.ndarray:
    """int64 [samples, 4], memory-mapped: offset and size of the jpg, offset and size of the txt, in bytes.

    Raises:
        ValueError: the shard or its index is missing, or the shard has another size than when it was indexed.
    """
    path = index_path(tar)
    if not path.exists():
        raise ValueError(f"{path}: missing; {remedy(tar)}")
    index = np.load(path, mmap_mode="r").view(np.ndarray)  # looking up a memmap is slow, one by one
    check_size(tar, tar_size(index))
    return index


class Shard:
    """One tar file, memory-mapped.

    Raises:
        ValueError: as `read_index`.
    """

    def __init__(self, path):
        # One by one, a column's view gives its numbers in a third of the time that an array of rows takes.
        self.pictures, self.sizes, self.texts, self.lengths = map(memoryview, read_index(path).T)
        with open(path, "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self.map)

    def __len__(self) -> int:
        return len(self.pictures)

    def jpeg(self, item: int) -> memoryview:
        """A picture's bytes, which stay where they are."""
        place = self.pictures[item]
        return self.view[place : place + self.sizes[item]]

    def caption(self, item: int) -> str:
        place = self.texts[item]
        return self.map[place : place + self.lengths[item]].decode()

    def captions(self) -> list[str]:
        return [self.map[place : place + size].decode() for place, size in zip(self.texts, self.lengths, strict=True)]

    def key(self, item: int) -> str:
        """The sample's name, from the header before its picture."""
        header = self.pictures[item] - BLOCK
        return self.map[header : header + 100].split(b"\0")[0].decode().removesuffix(".jpg")
