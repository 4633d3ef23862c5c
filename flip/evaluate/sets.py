"""Reads test sets from local folders in clip-benchmark's webdataset layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flip import public
from flip.data.boxes import kind
from flip.data.contents import contents, encoded_picture
from flip.data.images import decode
from flip.data.index import PICTURES, members
from flip.data.testsets import NAMES, PROMPTS, label, tars
from flip.schema import Params
from flip.sheet import spread


def places(params: Params) -> dict[str, str]:
    """Role -> place of the sets that a variant is evaluated on."""
    return params.evaluate.of(params.captions.languages)


def made_folder(params: Params, data: Path, name: str) -> Path:
    """Where the data's stages have put what they made of a set, or found out about it."""
    return data / ("tests" if name in params.evaluate.sets else "languages/tests") / name


def set_folder(params: Params, data: Path, name: str) -> Path:
    """Where a set lies: the world's own beside the shards, a public one where params.yaml says."""
    place = places(params)[name]
    return made_folder(params, data, name) if place == "world" else public.folder(place)


def to_square(image: Image.Image, side: int) -> torch.Tensor:
    """uint8 [side, side, 3]: the centred square of the shorter side, bicubic (FLIP's evaluation has no margin)."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    square = image.convert("RGB").crop((left, top, left + short, top + short))
    return torch.from_numpy(np.array(square.resize((side, side), Image.Resampling.BICUBIC)))


@dataclass(frozen=True)
class Split:
    """Batches of one split: pictures uint8 [batch, side, side, 3]; classes [batch], labels [batch, classes], or a list
    of captions for each."""

    folder: Path
    side: int
    batch: int
    name: str

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | list]]:
        samples = chain.from_iterable(map(self._samples, tars(self.folder, self.name)))
        while some := list(islice(samples, self.batch)):
            images, targets = zip(*some, strict=True)
            has_captions = isinstance(targets[0], list)
            yield torch.stack(images), list(targets) if has_captions else torch.from_numpy(np.array(targets))

    def _samples(self, tar: Path) -> Iterator[tuple[torch.Tensor, int | np.ndarray | list[str]]]:
        extension = {"retrieval": "txt", "multilabel": "npy"}.get(kind(self.folder), "cls")
        for key, content in contents(tar):
            image = to_square(decode(encoded_picture(content), f"{tar}: {key}"), self.side)
            stored = content[extension]
            yield image, stored.decode().splitlines() if extension == "txt" else label(stored, extension)


def lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines()]


def prompts(folder) -> tuple[list[str] | None, list[str] | None]:
    """The class names and prompt templates of a set, as clip-benchmark reads them; None of one without classes."""
    if kind(folder) not in ("classification", "multilabel"):
        return None, None
    return tuple(lines(Path(folder) / name) for name in (NAMES, PROMPTS))


def read_set(folder, side: int, batch: int, split: str = "test") -> Split:
    """A set's split.

    Raises:
        ValueError: a folder without the layout.
    """
    folder = Path(folder)
    if not (folder / split / "nshards.txt").exists():
        raise ValueError(
            f"{folder}: no {split}/nshards.txt; evaluate.sets wants 'world' or a folder in clip-benchmark's webdataset "
            "layout (clip_benchmark_export_wds writes one)"
        )
    return Split(folder, side, batch, split)


def examples(folder, side: int, count: int) -> tuple[torch.Tensor, list[int]]:
    """At most `count` test pictures, evenly spaced over a set with classes, with the class of each: uint8 [pictures,
    side, side, 3]. Of the others no byte is read."""
    places = [(tar, files) for tar in tars(folder) for files in members(tar).values()]
    pictures, classes = [], []
    for place in spread(len(places), count):
        tar, files = places[place]
        with open(tar, "rb") as file:
            content = {}
            for extension in files.keys() & {*PICTURES, "cls"}:
                offset, size = files[extension]
                file.seek(offset)
                content[extension] = file.read(size)
        classes.append(int(content.pop("cls")))
        pictures.append(to_square(decode(content.popitem()[1], str(tar)), side))
    return torch.stack(pictures), classes
