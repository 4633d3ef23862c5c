"""Index where each sample lies in a tar, and read samples from it by memory-mapping.

A shard's index is an array beside the file, so that reading a sample takes no walk through headers, and no copy. A tar
of others stays where it is: index and captions of its samples lie in the project, where the shard has its name, and the
manifest's entry says where the tar is.
"""

import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flip.data.checksum import check, checked, read_checked
from flip.formats.tar_members import BLOCK, RECORD, members


def index_path(tar: str | Path) -> Path:
    """Return the file of a shard's index."""
    return Path(tar).with_suffix(".index.npy")


def captions_path(shard: str | Path) -> Path:
    """Return the file of the captions of a shard whose tar lies elsewhere."""
    return Path(shard).with_suffix(".captions")


def write_index(tar: str | Path) -> int:
    """Write the index of a shard; return its number of samples.

    Raises:
        ValueError: as `members`.
    """
    found = sorted(members(tar).items())
    images = [next(place for kind, place in sample.items() if kind != "txt") for _, sample in found]
    _save_index(tar, [(*image, *sample["txt"]) for image, (_, sample) in zip(images, found, strict=True)])
    return len(found)


def _save_index(shard: str | Path, rows: Sequence[tuple[int, ...]]) -> None:
    with checked(index_path(shard)) as file:
        np.save(file, np.array(rows, dtype=np.int64).reshape(-1, 4))


def write_taken_in(shard: str | Path, samples: Iterable[tuple[tuple[int, int], str]]) -> int:
    """Write index and captions of a shard whose tar lies elsewhere, of (place of the image, caption); return their
    number."""
    rows, end = [], 0
    with checked(captions_path(shard)) as file:
        for place, caption in samples:
            size = file.write(caption.encode())
            rows.append((*place, end, size))
            end += size
    _save_index(shard, rows)
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
    """Read a shard's index, int64 [samples, 4], memory-mapped: offset and size of the image, then of the caption, in
    bytes.

    Raises:
        ValueError: the shard or its index is missing or damaged, or the shard has another size than when it was
            indexed.
    """
    index = _read_index(tar)
    check_size(tar, tar_size(index))
    return index


def _read_index(shard: str | Path) -> np.ndarray:
    path = index_path(shard)
    if not path.exists():
        raise ValueError(f"{path}: missing; {remedy(shard)}")
    try:
        check(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {remedy(shard)}") from None
    return np.load(path, mmap_mode="r").view(np.ndarray)  # looking up a memmap is slow, one by one


class Shard:
    """Read samples of one tar file, memory-mapped.

    Raises:
        ValueError: as `read_index`.
    """

    def __init__(self, path: str | Path):
        self._open(path, read_index(path))
        self.words: bytes | mmap.mmap = self.map

    def _open(self, tar: str | Path, index: np.ndarray) -> None:
        # One by one, a column's view gives its numbers in a third of the time that an array of rows takes.
        self.images, self.sizes, self.texts, self.lengths = (memoryview(column) for column in index.T)
        with open(tar, "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self.map)

    def __len__(self) -> int:
        return len(self.images)

    def encoded(self, item: int) -> memoryview:
        """Return an encoded image, without a copy."""
        place = self.images[item]
        return self.view[place : place + self.sizes[item]]

    def caption(self, item: int) -> str:
        """Return a sample's caption."""
        place = self.texts[item]
        return self.words[place : place + self.lengths[item]].decode()

    def captions(self) -> list[str]:
        """Return the captions of all samples."""
        return [self.words[place : place + size].decode() for place, size in zip(self.texts, self.lengths, strict=True)]

    def key(self, item: int) -> str:
        """Read the sample's name from the header before its image."""
        header = self.images[item] - BLOCK
        return self.map[header : header + 100].split(b"\0")[0].decode(errors="replace").rpartition(".")[0]


class TakenIn(Shard):
    """Read samples of a tar that lies elsewhere, at `tar`, by index and captions at `path`.

    Raises:
        ValueError: as `Shard`; or the tar is no longer of `size` bytes.
    """

    def __init__(self, path: str | Path, tar: str | Path, size: int):
        check_source(tar, size)
        self._open(tar, _read_index(path))
        try:
            self.words = read_checked(captions_path(path))
        except (ValueError, OSError) as error:
            raise ValueError(f"{captions_path(path)}: {error}; {remedy(path)}") from None


def check_source(tar: str | Path, expected: int) -> None:
    """Check that a tar that lies elsewhere is there as it was, by its size in bytes.

    Raises:
        ValueError: it is missing, or has another size.
    """
    found = Path(tar).stat().st_size if Path(tar).exists() else None
    if found != expected:
        raise ValueError(
            f"{tar}: {'missing' if found is None else f'{found} bytes'}, {expected} bytes when it was indexed; bring "
            "it back, or run the pipeline again, which takes in what there is (source.shards)"
        )


def shard_path(folder: str | Path, entry: dict[str, Any]) -> Path:
    """Return the tar of a manifest's entry: below the folder of shards, or elsewhere."""
    return Path(entry.get("tar") or Path(folder) / entry["name"])


def check_shard(folder: str | Path, entry: dict[str, Any]) -> None:
    """Check that the tar of a manifest's entry has its size. Raises ValueError where it is missing or has another."""
    (check_source if "tar" in entry else check_size)(shard_path(folder, entry), entry["bytes"])


def open_shard(folder: str | Path, entry: dict[str, Any]) -> Shard:
    """Open the shard of a manifest's entry, `folder` being that of the shards. Raises ValueError as `Shard`."""
    path = Path(folder) / entry["name"]
    return TakenIn(path, entry["tar"], entry["bytes"]) if "tar" in entry else Shard(path)
