"""Index where each sample lies in a tar, and read samples from it by memory-mapping.

A shard's index is an array beside the file, so that reading a sample takes no walk through headers, and no copy. A tar
of others stays where it is: index and captions of its samples lie in the project, where the shard has its name, and the
manifest's entry says where the tar is.
"""

import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flip.data.checksum import check, read_checked
from flip.data.shard_index import captions_path, index_path
from flip.data.tar_cache import Held, Hold, not_fetched
from flip.formats.remote import RemoteFile, is_remote
from flip.formats.tar_members import BLOCK, RECORD


def tar_size(index: np.ndarray) -> int:
    """Compute the bytes of the shard that an index [samples, 4] describes: its last member, two empty blocks,
    padding."""
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
    bytes. Where captions have a file of their own, these are places in it, a fifth column is how many they are, and a
    sixth how many of these, the last ones, are synthetic, if there are any.

    Raises:
        ValueError: the shard or its index is missing or damaged, or the shard has another size than when it was
            indexed.
    """
    index = _read_index(tar)
    if index.shape[1] == 4:
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


class Several(NamedTuple):
    """Say where each sample's captions begin among those of its shard, and the end, int64 [samples + 1]; and how many
    of them, the last ones, are synthetic, int64 [samples] (None: none)."""

    firsts: np.ndarray
    synthetic: np.ndarray | None

    def drawn(self, item: int, draw: float, share: float | None) -> int:
        """Return the number of one of an item's captions, by a uniform number: of a synthetic one with the probability
        `share`, where the item has such and others; of any of them where that is None."""
        first, end = self.firsts[item : item + 2].tolist()
        synthetic = 0 if self.synthetic is None else int(self.synthetic[item])
        if share is not None and 0 < synthetic < end - first:
            own = end - synthetic
            first, end, draw = (own, end, draw / share) if draw < share else (first, own, (draw - share) / (1 - share))
        return first + min(int(draw * (end - first)), end - first - 1)


class StoredCaptions:
    """Read the captions of a shard by its index, from `words`: the content of its tar, or of the captions' file."""

    def __init__(self, index: np.ndarray, words: bytes | mmap.mmap):
        # One by one, a column's view gives its numbers in a third of the time that an array of rows takes.
        self.images, self.sizes, self.texts, self.lengths = (memoryview(column) for column in index.T[:4])
        self.counts = index[:, 4] if index.shape[1] > 4 else None
        self.synthetic = index[:, 5] if index.shape[1] > 5 else None
        self.words = words

    def __len__(self) -> int:
        return len(self.images)

    def caption(self, item: int) -> str:
        """Return a sample's caption, the first where it has several."""
        place = self.texts[item]
        text = self.words[place : place + self.lengths[item]].decode()
        return text if self.counts is None else text.split("\0", 1)[0]

    def captions(self) -> list[str]:
        """Return the captions of all samples, of one after the other."""
        places = zip(self.texts, self.lengths, strict=True)
        found = [self.words[place : place + size].decode() for place, size in places]
        return found if self.counts is None else [one for captions in found for one in captions.split("\0")]

    def several(self) -> "Several | None":
        """Return which of `captions()` are each sample's; None where each has one."""
        if self.counts is None or (self.counts == 1).all():
            return None
        return Several(np.concatenate([[0], np.cumsum(self.counts)]), self.synthetic)


class Shard(StoredCaptions):
    """Read samples of one tar file, memory-mapped.

    Raises:
        ValueError: as `read_index`.
    """

    def __init__(self, path: str | Path):
        index = read_index(path)
        self._map(path)
        super().__init__(index, self.map if index.shape[1] == 4 else _read_captions_file(path))

    def _map(self, tar: str | Path) -> None:
        with open(tar, "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self.map)

    def encoded(self, item: int) -> memoryview:
        """Return an encoded image, without a copy."""
        place = self.images[item]
        return self.view[place : place + self.sizes[item]]

    def key(self, item: int) -> str:
        """Read the sample's name from the header before its image."""
        header = self.images[item] - BLOCK
        return self.map[header : header + 100].split(b"\0")[0].decode(errors="replace").rpartition(".")[0]


class TakenIn(Shard):
    """Read samples of a tar that lies elsewhere, at `tar`, by index and captions at `path`.

    Raises:
        ValueError: as `Shard`; or the tar is no longer of `size` bytes.
    """

    def __init__(self, path: str | Path, tar: str | Path, size: int, held: Held | None = None):
        check_source(tar, size)
        self.held = held  # a copy, which stays as long as this does
        self._map(tar)
        StoredCaptions.__init__(self, _read_index(path), _read_captions_file(path))


def _read_captions_file(path: str | Path) -> bytes:
    try:
        return read_checked(captions_path(path))
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


def remote_file(entry: dict[str, Any]) -> RemoteFile | None:
    """Return the tar of a manifest's entry where it is a URL."""
    url = entry.get("tar", "")
    return RemoteFile(url, entry["bytes"], entry["version"], entry["sha256"]) if is_remote(url) else None


def shard_path(folder: str | Path, entry: dict[str, Any]) -> Path | RemoteFile:
    """Return the tar of a manifest's entry: below the folder of shards, elsewhere on a disk, or at a URL."""
    return remote_file(entry) or Path(entry.get("tar") or Path(folder) / entry["name"])


def check_shard(folder: str | Path, entry: dict[str, Any]) -> None:
    """Check that the tar of a manifest's entry has its size, if it lies on a disk. Raises ValueError where it is
    missing or has another."""
    if not isinstance(path := shard_path(folder, entry), RemoteFile):
        (check_source if "tar" in entry else check_size)(path, entry["bytes"])


def open_shard(folder: str | Path, entry: dict[str, Any], hold: Hold = not_fetched) -> Shard:
    """Open the shard of a manifest's entry, `folder` being that of the shards; `hold` gives the copy of a tar that is
    at a URL. Raises ValueError as `Shard` and `hold`."""
    path = Path(folder) / entry["name"]
    if remote := remote_file(entry):
        held = hold(remote)
        return TakenIn(path, held.path, entry["bytes"], held)
    return TakenIn(path, entry["tar"], entry["bytes"]) if "tar" in entry else Shard(path)


def open_captions(folder: str | Path, entry: dict[str, Any]) -> StoredCaptions:
    """Open the captions of a manifest's entry, which are here wherever its tar is. Raises ValueError as `Shard`."""
    path = Path(folder) / entry["name"]
    return StoredCaptions(_read_index(path), _read_captions_file(path)) if "tar" in entry else Shard(path)
