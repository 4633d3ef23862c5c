"""Read what heads learn from and are tested on: states of patches, computed once for all tasks that share images, and
beside each image its captions, or its questions.

The world's heads learn from the images that fine's probe is fitted to and are tested on those of the retrieval set,
so that no more images are kept out of pre-training. Another set is a folder in clip-benchmark's webdataset layout.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flip.config.kinds import LEARNED
from flip.config.schema import Params
from flip.evaluate.features import mapped
from flip.evaluate.inputs import read
from flip.formats.contents import encoded_image
from flip.formats.images import decode
from flip.formats.layout import samples, set_hash, text
from flip.formats.notes import SHOWN, notes_path, read_notes
from flip.formats.tar_members import IMAGES
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import to_square


@dataclass(frozen=True)
class TaskSplit:
    """Hold states of the image tower [images, slots, width], float16, mapped into memory, and for each image its notes:
    a list of captions, or of questions; and its domain, empty where it is not known."""

    states: Tensor
    notes: list[list]
    domains: list[str]

    def facts(self, digest: str) -> dict:
        """Say what it consists of; `digest` is over the images."""
        text = json.dumps([digest, self.notes])
        return {"samples": len(self.notes), "sha256": sha256(text.encode()).hexdigest()}


def world_batches(params: Params, data: Path, tasks: list[str], split: str) -> Iterator[tuple[Tensor, list[dict]]]:
    """Give the world's images, and of each its notes by task, in batches.

    Raises:
        ValueError: there are other than as many notes as images, or none.
    """
    folder = data / "tests" / SHOWN[split]
    notes = read_notes(folder, split)
    for images, _ in read(params, data, SHOWN[split], split):
        some = list(islice(notes, len(images)))
        if len(some) != len(images):
            raise ValueError(f"{notes_path(folder, split)}: fewer lines than there are images")
        yield images, [{task: LEARNED[task].known(one[LEARNED[task].taught_by]) for task in tasks} for one in some]


def folder_batches(
    folder: Path, tasks: list[str], split: str, side: int, batch: int
) -> Iterator[tuple[Tensor, list[dict]]]:
    images, notes, beside = [], [], {"domain", *(LEARNED[task].beside for task in tasks)}
    for where, content in samples(folder, split, *IMAGES, *beside):
        images.append(to_square(decode(encoded_image(content, where), where), side))
        some = {task: LEARNED[task].notes(content, where) for task in tasks}
        notes.append(some | {"domain": text(content.get("domain", b""), f"{where}.domain").strip()})
        if len(images) == batch:
            yield torch.stack(images), notes
            images, notes = [], []
    if images:
        yield torch.stack(images), notes


def revision(data: Path, place: str, split: str) -> str:
    """Return the SHA-256 of what a split is read from."""
    return set_hash(data / "tests" / SHOWN[split] if place == "world" else Path(place), split)


@torch.no_grad()
def read_split(
    model: TwoTowers, data: Path, place: str, tasks: list[str], split: str, device: str
) -> dict[str, TaskSplit]:
    """Read a split by task; `tasks` are those that share the images at `place`. Memory holds a batch of them.

    Raises:
        ValueError: a folder without the layout.
    """
    params = model.params
    notes: list[dict[str, Any]] = []
    vision = model.vision
    assert vision is not None
    if place == "world":
        batches = world_batches(params, data, tasks, split)
    else:
        batches = folder_batches(Path(place), tasks, split, params.model.image, params.evaluate.batch)

    def states() -> Iterator[np.ndarray]:
        for images, some in batches:
            notes.extend(some)
            # Half the digits: behind a LayerNorm no state is large, and a large set's take most of a disk.
            yield vision(images.to(device)).cpu().numpy().astype(np.float16)

    found = mapped(states())
    domains = [one.get("domain", "") for one in notes]
    return {task: TaskSplit(found, [one[task] for one in notes], domains) for task in tasks}
