"""Test sets, read from local folders in clip-benchmark's webdataset layout, as clip-benchmark reads them.

Its own reader unpickles members that a stranger may have put into a tar, so nothing is read by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flip.config import kinds, public
from flip.config.schema import Params
from flip.data.contact_sheet import spread
from flip.files import read_json
from flip.formats import layout
from flip.formats.contents import encoded_image, read
from flip.formats.images import decode
from flip.formats.tar_members import IMAGES, members


def places(params: Params) -> dict[str, str]:
    """Return the place of each set that a variant is evaluated on, by role."""
    return params.evaluate.of(params.captions.languages)


def made_folder(params: Params, data: Path, name: str) -> Path:
    """Return the folder where the data's stages write what they make of a set, or record about it."""
    return data / ("tests" if name in params.evaluate.sets else "languages/tests") / name


def set_folder(params: Params, data: Path, name: str) -> Path:
    """Return the folder of a set: a synthetic one's beside the shards, a public one's as params.yaml says."""
    place = (params.evaluate.sets | places(params))[name]
    return made_folder(params, data, name) if place == "world" else public.folder(place)


def revision(params: Params, data: Path, name: str) -> dict:
    """Return what a set consists of, as the data's stage has recorded it, and as it still is.

    Raises:
        ValueError: its files have changed since, so that what was kept out of the training data is not what is read.
    """
    path, folder = made_folder(params, data, name) / "revision.json", set_folder(params, data, name)
    found = read_json(path)
    splits = {"test": found["sha256"], "train": found.get("train", {}).get("sha256")}
    for split, digest in splits.items():
        if digest and layout.set_hash(folder, split) != digest:
            raise ValueError(
                f"{folder}: changed since {path} was written, in what its {split} split is read from; start the "
                "workflow again, which looks at the set anew, or bring the files back"
            )
    return found


def to_square(image: Image.Image, side: int) -> torch.Tensor:
    """Return uint8 [side, side, 3]: the centred square of the shorter side, bicubic (FLIP's evaluation has no
    margin)."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    square = image.convert("RGB").crop((left, top, left + short, top + short))
    return torch.from_numpy(np.array(square.resize((side, side), Image.Resampling.BICUBIC)))


@dataclass(frozen=True)
class ImageSplit:
    """Yield batches of one split: images uint8 [batch, side, side, 3]; classes [batch], labels [batch, classes], or a
    list of captions for each."""

    folder: Path
    side: int
    batch: int
    name: str

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | list]]:
        extension, target = kinds.of_folder(self.folder).target(self.folder)
        every = layout.samples(self.folder, self.name, *IMAGES, extension)
        while some := list(islice(every, self.batch)):
            images = [to_square(decode(encoded_image(content, where), where), self.side) for where, content in some]
            targets = [target(content.get(extension, b""), where) for where, content in some]
            yield torch.stack(images), collated(targets)


def collated(targets: list) -> torch.Tensor | list:
    """Collate classes [batch], labels [batch, classes], or captions as they are."""
    return targets if isinstance(targets[0], list) else torch.from_numpy(np.array(targets, np.int64))


def prompts(folder: str | Path) -> tuple[list[str] | None, list[str] | None]:
    """Return the class names of a set and its prompt templates, for which public.yaml may have the paper's; None of one
    without classes."""
    if not kinds.of_folder(folder := Path(folder)).has_classes:
        return None, None
    known = public.of_folder(folder)
    theirs = known.prompts if known else None
    return layout.class_names(folder), [*theirs] if theirs else layout.prompts(folder)


def read_set(folder: str | Path, side: int, batch: int, split: str = "test") -> ImageSplit:
    """Return a set's split.

    Raises:
        ValueError: a folder without the layout.
    """
    folder = Path(folder)
    if not (folder / split / "nshards.txt").exists():
        raise ValueError(
            f"{folder}: no {split}/nshards.txt; evaluate.sets wants 'world' or a folder in clip-benchmark's webdataset "
            "layout (clip_benchmark_export_wds writes one)"
        )
    return ImageSplit(folder, side, batch, split)


def examples(folder: Path, side: int, count: int) -> tuple[torch.Tensor, list[int]]:
    """Return at most `count` test images, evenly spaced over a set with classes, with the class of each: uint8 [images,
    side, side, 3]. Of the others no byte is read."""
    extension, target = kinds.of_folder(folder).target(folder)
    places = [(tar, key, files) for tar in layout.tars(folder) for key, files in members(tar).items()]
    images, classes = [], []
    for place in spread(len(places), count):
        tar, key, files = places[place]
        with open(tar, "rb") as file:
            content, where = read(file, files, *IMAGES, extension), f"{tar}: {key}"
        classes.append(target(content.get(extension, b""), where))
        images.append(to_square(decode(encoded_image(content, where), where), side))
    return torch.stack(images), classes
