"""Index where each sample lies in a tar, and read samples from it by memory-mapping.

A shard's index is an array beside the file, so that reading a sample takes no walk through headers, and no copy.
"""

import mmap
from pathlib import Path

import numpy as np

from flip.data.checksum import check, checked
from flip.formats.tar_members import BLOCK, RECORD, members


def index_path(tar: str | Path) -> Path:
    """Return the file of a shard's index."""
    return Path(tar).with_suffix(".index.npy")


def write_index(tar: str | Path) -> int:
    """Write the index of a shard; return its number of samples.

    Raises:
        ValueError: as `members`.
    """
    rows = [(*sample["jpg"], *sample["txt"]) for _, sample in sorted(members(tar).items())]
    with checked(index_path(tar)) as file:
        np.save(file, np.array(rows, dtype=np.int64).reshape(-1, 4))
    return len(rows)


def tar_size(index: np.ndarray) -> int:
    """Compute the bytes of the shard that an index describes: its last member, two empty blocks, padding."""
    end = int((index[:, 2] + index[:, 3]).max(initial=0))
    blocks = -(-end // BLOCK) + 2
    return -(-blocks * BLOCK // RECORD) * RECORD


def remedy(tar: str | Path) -> str:
    """Explain what to do about a shard that is missing or damaged."""
    folder = Path(tar).parent
    return (
        f"`dvc checkout {folder}` brings back what DVC has recorded; otherwise delete {folder} and {folder}.json, then "
        "run the pipeline again"
    )


def check_size(tar: str | Path, expected: int) -> None:
    """Check that a shard is there and has its size, in bytes.

    Raises:
        ValueError: it is missing, or has another size.
    """
    tar = Path(tar)
    if not tar.exists():
        raise ValueError(f"{tar}: missing; {remedy(tar)}")
    if (found := tar.stat().st_size) != expected:
        raise ValueError(f"{tar}: {expected} bytes expected, {found} found, so it is not whole: {remedy(tar)}")


def read_index(tar: str | Path) -> np.ndarray:
    """Read a shard's index, int64 [samples, 4], memory-mapped: offset and size of the jpg, then of the txt, in bytes.

    Raises:
        ValueError: the shard or its index is missing or damaged, or the shard has another size than when it was
            indexed.
    """
    path = index_path(tar)
    if not path.exists():
        raise ValueError(f"{path}: missing; {remedy(tar)}")
    try:
        check(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {remedy(tar)}") from None
    index = np.load(path, mmap_mode="r").view(np.ndarray)  # looking up a memmap is slow, one by one
    check_size(tar, tar_size(index))
    return index


class Shard:
    """Read samples of one tar file, memory-mapped.

    Raises:
        ValueError: as `read_index`.
    """

    def __init__(self, path: str | Path):
        # One by one, a column's view gives its numbers in a third of the time that an array of rows takes.
        self.images, self.sizes, self.texts, self.lengths = (memoryview(column) for column in read_index(path).T)
        with open(path, "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self.map)

    def __len__(self) -> int:
        return len(self.images)

    def jpeg(self, item: int) -> memoryview:
        """Return an encoded image, without a copy."""
        place = self.images[item]
        return self.view[place : place + self.sizes[item]]

    def caption(self, item: int) -> str:
        """Return a sample's caption."""
        place = self.texts[item]
        return self.map[place : place + self.lengths[item]].decode()

    def captions(self) -> list[str]:
        """Return the captions of all samples."""
        return [self.map[place : place + size].decode() for place, size in zip(self.texts, self.lengths, strict=True)]

    def key(self, item: int) -> str:
        """Read the sample's name from the header before its image."""
        header = self.images[item] - BLOCK
        return self.map[header : header + 100].split(b"\0")[0].decode().removesuffix(".jpg")
