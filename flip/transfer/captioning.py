"""Train and evaluate a head for captioning: its captions of test images are compared with the references."""

import numpy as np
import torch
from torch import Tensor

from flip.config.sections.transfer import Transfer
from flip.transfer import java, scores
from flip.transfer.fit import fit
from flip.transfer.heads import Captioner
from flip.transfer.splits import TaskSplit
from flip.transfer.words import Vocabulary, words


def scored(captions: list[str], references: list[list[str]], more: list[str]) -> dict[str, np.ndarray]:
    """Return values per image, float32 [images], whose means are CIDEr-D (at most 10), BLEU-4 (at most 1) and `more`
    scores that need Java."""
    said, right = [words(one) for one in captions], [[words(one) for one in some] for some in references]
    found = {"cider": scores.cider(said, right), "bleu4": scores.bleu(said, right)}
    if more:
        texts = [" ".join(one) for one in said], [[" ".join(one) for one in some] for some in right]
        found |= {name: java.SCORES[name](*texts) for name in more}
    return {name: values.astype(np.float32) for name, values in found.items()}


def by_domain(captions: list[str], test: TaskSplit, more: list[str]) -> dict[str, np.ndarray]:
    """Return `scored` of all images, and of each domain's as a set of its own: 'cider', 'in-domain-cider'."""
    found = scored(captions, test.notes, more)
    for domain in sorted(set(test.domains) - {""}):
        rows = [row for row, one in enumerate(test.domains) if one == domain]
        own = scored([captions[row] for row in rows], [test.notes[row] for row in rows], more)
        found |= {f"{domain}-{name}": values for name, values in own.items()}
    return found


def train(training: TaskSplit, transfer: Transfer, seed: int, device: str) -> tuple[Captioner, Vocabulary]:
    """Train a head on images and their captions; return it with its vocabulary.

    Raises:
        ValueError: weights are not finite at the end.
    """
    torch.manual_seed(seed)
    texts = [text for some in training.notes for text in some]
    owners = torch.tensor([row for row, some in enumerate(training.notes) for _ in some])
    vocabulary = Vocabulary(texts, transfer.least, transfer.words)
    ids = vocabulary.encode(texts, framed=True)
    width, slots = training.states.shape[-1], ids.shape[1]
    head = Captioner(transfer.captioning, width, len(vocabulary), slots).to(device)

    def loss(rows: Tensor) -> Tensor:
        return head.loss(training.states[owners[rows]].to(device).float(), ids[rows].to(device))

    fit(head, loss, len(texts), transfer, seed)
    return head, vocabulary


def outcomes(
    training: TaskSplit, tests: dict[str, TaskSplit], transfer: Transfer, more: list[str], seed: int, device: str
) -> dict[str, np.ndarray]:
    """Train a head and return `by_domain` of its captions of each test's images, by metric: '<test>-<score>'.

    Raises:
        ValueError: as `train`, or a score's process failed.
    """
    head, vocabulary = train(training, transfer, seed, device)
    found: dict[str, np.ndarray] = {}
    for task, test in tests.items():
        said = [
            vocabulary.decode(row)
            for states in test.states.split(transfer.batch)
            for row in head.say(states.to(device).float()).tolist()
        ]
        found |= {f"{task}-{name}": values for name, values in by_domain(said, test, more).items()}
    return found
