"""Write where each sample lies in a tar, and which captions it has.

    <shard>.index.npy    offset and size of the image, then of the caption, in bytes: int64 [samples, 4]
    <shard>.captions     the captions, where the tar is not the project's own, or a sample has several

Where captions have a file, the index says where they lie there, and in a fifth column how many they are; a sixth is how
many of these, the last ones, are synthetic, if there are any.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from flip.data.checksum import checked
from flip.formats.tar_members import members
from flip.formats.texts import Texts


def index_path(tar: str | Path) -> Path:
    """Return the file of a shard's index."""
    return Path(tar).with_suffix(".index.npy")


def captions_path(shard: str | Path) -> Path:
    """Return the file of the captions of a shard whose tar lies elsewhere."""
    return Path(shard).with_suffix(".captions")


def is_caption(extension: str) -> bool:
    """Tell whether a member of a sample is a caption: the first is .txt, others are .1.txt, .2.txt, ..., and synthetic
    ones .synthetic.txt, .1.synthetic.txt, ..."""
    return extension == "txt" or extension.endswith(".txt")


def as_members(texts: Texts) -> dict[str, bytes]:
    """Return the members of a sample that hold its captions, by extension."""
    named = zip(("txt", "synthetic.txt"), texts, strict=True)
    return {
        f"{number}.{name}" if number else name: caption.encode()
        for name, captions in named
        for number, caption in enumerate(captions)
    }


def image_kind(sample: Iterable[str]) -> str:
    """Return the extension of the image among those of a sample's members in one of the project's tars."""
    return next(one for one in sample if one != "json" and not is_caption(one))


def read_captions(file: IO[bytes], sample: dict[str, tuple[int, int]]) -> Texts:
    """Read the captions of a sample, by its members' places in one of the project's shards."""
    synthetic = sum(one.endswith("synthetic.txt") for one in sample)
    counts = sum(map(is_caption, sample)) - synthetic, synthetic
    found = []
    for extension in as_members(Texts(*([""] * count for count in counts))):
        file.seek(sample[extension][0])
        found.append(file.read(sample[extension][1]).decode())
    return Texts(found[: counts[0]], found[counts[0] :])


def write_index(tar: str | Path) -> int:
    """Write the index of a shard, and where a sample has several captions a file of them; return its number of samples.

    Raises:
        ValueError: as `members`.
    """
    found = [sample for _, sample in sorted(members(tar).items())]
    if all(sum(map(is_caption, sample)) == 1 and "txt" in sample for sample in found):
        rows = [(*sample[image_kind(sample)], *sample["txt"]) for sample in found]
        _save_index(tar, np.array(rows, np.int64).reshape(-1, 4))
        return len(rows)
    with open(tar, "rb") as file:
        return write_taken_in(tar, ((sample[image_kind(sample)], read_captions(file, sample)) for sample in found))


def _save_index(shard: str | Path, index: np.ndarray) -> None:
    with checked(index_path(shard)) as file:
        np.save(file, index)


def write_taken_in(shard: str | Path, samples: Iterable[tuple[tuple[int, int], Texts]]) -> int:
    """Write the index of a shard, and its captions in a file of their own, of (place of the image, captions); return
    the number of samples. A NUL is between two captions of a sample."""
    rows, end = [], 0
    with checked(captions_path(shard)) as file:
        for place, texts in samples:
            size = file.write("\0".join(one.replace("\0", " ") for one in texts.all).encode())
            rows.append((*place, end, size, len(texts.all), len(texts.synthetic)))
            end += size
    index = np.array(rows, np.int64).reshape(-1, 6)
    _save_index(shard, index if index[:, 5].any() else index[:, :5])
    return len(rows)
