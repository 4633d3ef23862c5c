"""Train and evaluate a head for visual question answering, which classifies into answers of the training split.

The head learns the VQAv2 scores of all answers by binary cross-entropy (FLIP, section 4.2); the metric is the score of
the answer that it ranks first.
"""

from collections import Counter, defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.kinds.vqa import Question
from flip.config.sections.transfer import Transfer
from flip.transfer import scores
from flip.transfer.answers import soft_scores
from flip.transfer.fit import fit
from flip.transfer.heads import Answerer
from flip.transfer.splits import TaskSplit
from flip.transfer.words import Vocabulary


def known_answers(notes: list[list[Question]], least: int) -> list[str]:
    """Return the answers that an annotator gave to at least `least` questions."""
    counts = Counter(answer for some in notes for one in some for answer in soft_scores(one.answers))
    return sorted(answer for answer, count in counts.items() if count >= least)


def targets(asked: list[Question], answers: list[str]) -> Tensor:
    """Return the scores of all answers to all questions [questions, answers]."""
    places, found = {answer: place for place, answer in enumerate(answers)}, torch.zeros(len(asked), len(answers))
    for row, one in zip(found, asked, strict=True):
        for answer, score in soft_scores(one.answers).items():
            if answer in places:
                row[places[answer]] = score
    return found


def by_kind(asked: list[Question], owners: list[int], right: list[float]) -> dict[str, np.ndarray]:
    """Return values per image whose mean is that of the questions' scores, for all questions ("") and for each kind.

    Each is float32 [images that have any]. `owners` are the questions' images, `right` their scores.
    """
    sums: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for one, image, score in zip(asked, owners, right, strict=True):
        for kind in {"", one.kind}:
            sums[kind][image] += score
            counts[kind][image] += 1
    pairs = {kind: [np.array(list(one[kind].values()), float) for one in (sums, counts)] for kind in counts}
    return {kind: scores.ratio(*pair).astype(np.float32) for kind, pair in pairs.items()}


def numbered(split: TaskSplit) -> tuple[list[Question], Tensor]:
    """Return all questions, and the index of the image of each [questions]."""
    pairs = [(one, row) for row, some in enumerate(split.notes) for one in some]
    return [one for one, _ in pairs], torch.tensor([row for _, row in pairs])


def train(training: TaskSplit, transfer: Transfer, seed: int, device: str) -> tuple[Answerer, Vocabulary, list[str]]:
    """Train a head; return it with its vocabulary and the answers that it chooses from.

    Raises:
        ValueError: no answer is given often enough, or weights are not finite at the end.
    """
    torch.manual_seed(seed)
    (asked, owners), answers = numbered(training), known_answers(training.notes, transfer.least)
    if not answers:
        raise ValueError(f"transfer.least = {transfer.least}: no answer is as frequent in the training split; lower it")
    vocabulary = Vocabulary([one.text for one in asked], transfer.least, transfer.words)
    ids, wanted = vocabulary.encode([one.text for one in asked]), targets(asked, answers)
    width = training.states.shape[-1]
    head = Answerer(transfer.fusion, width, len(vocabulary), transfer.words, len(answers)).to(device)

    def loss(rows: Tensor) -> Tensor:
        logits = head(training.states[owners[rows]].to(device).float(), ids[rows].to(device))
        return F.binary_cross_entropy_with_logits(logits, wanted[rows].to(device), reduction="sum") / len(rows)

    fit(head, loss, len(asked), transfer, seed)
    return head, vocabulary, answers


@torch.no_grad()
def outcomes(training: TaskSplit, test: TaskSplit, transfer: Transfer, seed: int, device: str) -> dict[str, np.ndarray]:
    """Train a head and return `by_kind` of its answers about the test images, by metric: 'vqa' and 'vqa-<kind>'.

    Raises:
        ValueError: as `train`.
    """
    with torch.enable_grad():
        head, vocabulary, answers = train(training, transfer, seed, device)
    asked, owners = numbered(test)
    ids, worth, right = vocabulary.encode([one.text for one in asked]), targets(asked, answers), []
    for rows in torch.arange(len(asked)).split(transfer.batch):
        best = head(test.states[owners[rows]].to(device).float(), ids[rows].to(device)).argmax(dim=1).cpu()
        right.append(worth[rows, best])
    found = by_kind(asked, owners.tolist(), torch.cat(right).tolist())
    return {f"vqa-{kind}" if kind else "vqa": values for kind, values in found.items()}
