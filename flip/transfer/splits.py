"""What heads learn from and are tested on: states of patches, computed once for all tasks that have the same pictures,
and beside each picture its captions, or its questions.

The world's heads learn from the pictures that fine's probe is fitted to and are tested on those of the retrieval set,
so that no more pictures are kept out of pre-training. Another set is a folder in clip-benchmark's webdataset layout.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flip.config.schema import World
from flip.data.images import decode
from flip.data.shard import PICTURES
from flip.evaluate.features import mapped
from flip.evaluate.inputs import read
from flip.metrics.sets import LEARNED_FROM
from flip.model.two_towers import TwoTowers
from flip.synthetic.questions import Question, questions
from flip.synthetic.scenes import stream
from flip.synthetic.shifts import captions_of, scene_of
from flip.testsets.contents import encoded_picture
from flip.testsets.layout import captions, samples, set_hash, text
from flip.testsets.reader import to_square

CAPTIONED = ("caption", "nocaps")
NOTES = ("txt", "json", "domain")  # what is read beside a picture


@dataclass(frozen=True)
class Split:
    """States of the image tower [pictures, slots, width], float16, mapped into memory, and for each picture its notes:
    a list of captions, or of questions; and its domain, empty where it is not known."""

    states: Tensor
    notes: list[list]
    domains: list[str]

    def facts(self, digest: str) -> dict:
        """What it consists of; `digest` is over the pictures."""
        text = json.dumps([digest, self.notes])
        return {"samples": len(self.notes), "sha256": sha256(text.encode()).hexdigest()}


def of_world(world: World, task: str, split: str, index: int) -> list:
    """The notes of a picture of the world."""
    name = LEARNED_FROM[split]
    if task == "caption":
        return captions_of(world, index, name=name, split=split)
    return questions(scene_of(world, name, index, split), stream(world, split, "questions", index))


def world_batches(params, data: Path, tasks: list[str], split: str) -> Iterator[tuple[Tensor, list[dict]]]:
    start = 0
    for images, _ in read(params, data, LEARNED_FROM[split], split):
        numbers = range(start, start + len(images))
        yield images, [{task: of_world(params.world, task, split, number) for task in tasks} for number in numbers]
        start += len(images)


def noted(task: str, content: dict[str, bytes], where: str) -> list:
    """The notes of a sample of a public set.

    Raises:
        ValueError: it has none, or others than the task needs.
    """
    if task in CAPTIONED:
        return [caption.strip() for caption in captions(content.get("txt", b""), where)]
    try:
        asked = json.loads(content.get("json", b""))
        found = [Question("", str(one["question"]), [str(answer) for answer in one["answers"]]) for one in asked]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = []
    if not found or not all(one.answers for one in found):
        raise ValueError(f'{where}.json needs [{{"question": text, "answers": [text, ...]}}, ...], for transfer.vqa')
    return found


def folder_batches(
    folder: Path, tasks: list[str], split: str, side: int, batch: int
) -> Iterator[tuple[Tensor, list[dict]]]:
    images, notes = [], []
    for where, content in samples(folder, split, *PICTURES, *NOTES):
        images.append(to_square(decode(encoded_picture(content, where), where), side))
        some = {task: noted(task, content, where) for task in tasks}
        notes.append(some | {"domain": text(content.get("domain", b""), f"{where}.domain").strip()})
        if len(images) == batch:
            yield torch.stack(images), notes
            images, notes = [], []
    if images:
        yield torch.stack(images), notes


def revision(data: Path, place: str, split: str) -> str:
    """SHA-256 of what a split is read from."""
    return set_hash(data / "tests" / LEARNED_FROM[split] if place == "world" else Path(place), split)


@torch.no_grad()
def read_split(model: TwoTowers, data: Path, place: str, tasks: list[str], split: str, device: str) -> dict[str, Split]:
    """A split by task; `tasks` are those that share the pictures at `place`. Memory holds a batch of them.

    Raises:
        ValueError: a folder without the layout.
    """
    params, notes = model.params, []
    if place == "world":
        batches = world_batches(params, data, tasks, split)
    else:
        batches = folder_batches(Path(place), tasks, split, params.model.image, params.evaluate.batch)

    def states():
        for images, some in batches:
            notes.extend(some)
            # Half the digits: behind a LayerNorm no state is large, and a large set's take most of a disk.
            yield model.vision(images.to(device)).cpu().numpy().astype(np.float16)

    found = mapped(states())
    domains = [one.get("domain", "") for one in notes]
    return {task: Split(found, [one[task] for one in notes], domains) for task in tasks}
