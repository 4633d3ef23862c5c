"""Read and write the annotations of synthetic sets that heads learn from: captions and questions.

They lie beside a split as <split>-notes.jsonl, a line per image in the split's order, {task: notes}. No hash of a set
covers it, so that a set is the same with and without.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flip.files import write_atomic

# The world's sets whose images heads learn from and are tested on: fine's probe is fitted to the first, too, so that no
# more images are kept out of pre-training.
SHOWN = {"train": "fine", "test": "retrieval"}


def notes_path(folder: Path, split: str) -> Path:
    """Return where the notes of a split of the set in a folder lie."""
    return folder / f"{split}-notes.jsonl"


def write_notes(folder: Path, split: str, notes: Iterable[dict[str, list]]) -> None:
    """Write the notes of a split, by task, of each image."""
    write_atomic(notes_path(folder, split), "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in notes))


def read_notes(folder: Path, split: str) -> Iterator[dict[str, list]]:
    """Give the notes of each image of a split, by task.

    Raises:
        ValueError: the file is not there.
    """
    place = notes_path(folder, split)
    if not place.exists():
        raise ValueError(f"{place}: not found; delete the receipt of {folder}, and start the workflow again")
    with open(place, encoding="utf-8") as file:
        yield from map(json.loads, file)
