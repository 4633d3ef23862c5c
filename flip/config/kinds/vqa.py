"""Read images with questions, each with the answers of annotators (VQAv2, Goyal et al. 2017): a .json holds
[{"question": text, "answers": [text, ...]}, ...]."""

import json
from typing import NamedTuple

from flip.config.kinds.kind import Kind
from flip.metrics.sets import QUESTIONS


class Question(NamedTuple):
    """Hold a question about an image."""

    kind: str  # colour, shape, count, place, relation; empty where it is not known
    text: str
    answers: list[str]


class Vqa(Kind):
    """Measure a head that chooses an answer to each question."""

    name = taught_by = "vqa"
    endings = ("", *(f"-{kind}" for kind in QUESTIONS))
    learned = True
    beside = "json"

    def endings_at(self, place: str | None) -> tuple[str, ...]:
        """Return the endings of metrics: a folder's questions are of no kind."""
        return self.endings if place in ("world", None) else ("",)

    def notes(self, content: dict[str, bytes], where: str) -> list[Question]:
        """Read the questions of a sample. Raises ValueError where there are none, or they are something else."""
        try:
            asked = json.loads(content.get(self.beside, b""))
            found = [Question("", str(one["question"]), [str(answer) for answer in one["answers"]]) for one in asked]
        except (ValueError, TypeError, KeyError, RecursionError):
            found = []
        if not found or not all(one.answers for one in found):
            raise ValueError(
                f'{where}.json needs [{{"question": text, "answers": [text, ...]}}, ...], for transfer.vqa'
            )
        return found

    def known(self, notes: list) -> list[Question]:
        """Return the questions about an image of the world, as its set's notes have them."""
        return [Question(*one) for one in notes]


KIND = Vqa()
