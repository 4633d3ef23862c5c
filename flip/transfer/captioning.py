"""Captioning: a head learns to say what a picture shows, and what it says of others is compared with their captions."""

import numpy as np
import torch

from flip.config.sections.transfer import Transfer
from flip.transfer import java, scores
from flip.transfer.fit import fit
from flip.transfer.heads import Captioner
from flip.transfer.splits import Split
from flip.transfer.words import Vocabulary, words


def scored(captions: list[str], references: list[list[str]], more: list[str]) -> dict[str, np.ndarray]:
    """CIDEr-D, 10 at most, BLEU-4, 1 at most, and `more` of those that need Java, as values per picture whose means
    they are: float32 [pictures]."""
    said, right = [words(one) for one in captions], [[words(one) for one in some] for some in references]
    found = {"cider": scores.cider(said, right), "bleu4": scores.bleu(said, right)}
    if more:
        texts = [" ".join(one) for one in said], [[" ".join(one) for one in some] for some in right]
        found |= {name: java.SCORES[name](*texts) for name in more}
    return {name: values.astype(np.float32) for name, values in found.items()}


def by_domain(captions: list[str], test: Split, more: list[str]) -> dict[str, np.ndarray]:
    """`scored` of all pictures, and of those of each domain as a set of its own: 'cider', 'in-domain-cider'."""
    found = scored(captions, test.notes, more)
    for domain in sorted(set(test.domains) - {""}):
        rows = [row for row, one in enumerate(test.domains) if one == domain]
        own = scored([captions[row] for row in rows], [test.notes[row] for row in rows], more)
        found |= {f"{domain}-{name}": values for name, values in own.items()}
    return found


def learned(training: Split, transfer: Transfer, seed: int, device: str) -> tuple[Captioner, Vocabulary]:
    """A head that has learned from pictures and their captions, and its words."""
    torch.manual_seed(seed)
    texts = [text for some in training.notes for text in some]
    owners = torch.tensor([row for row, some in enumerate(training.notes) for _ in some])
    vocabulary = Vocabulary(texts, transfer.least, transfer.words)
    ids = vocabulary.encode(texts, framed=True)
    width, slots = training.states.shape[-1], ids.shape[1]
    head = Captioner(transfer.captioning, width, len(vocabulary), slots).to(device)

    def loss(rows):
        return head.loss(training.states[owners[rows]].to(device).float(), ids[rows].to(device))

    fit(head, loss, len(texts), transfer, seed)
    return head, vocabulary


def outcomes(
    training: Split, tests: dict[str, Split], transfer: Transfer, more: list[str], seed: int, device: str
) -> dict[str, np.ndarray]:
    """By metric, '<test>-<score>', what `by_domain` says of the captions that one head gives each test's pictures."""
    head, vocabulary = learned(training, transfer, seed, device)
    found = {}
    for task, test in tests.items():
        said = [
            vocabulary.decode(row)
            for states in test.states.split(transfer.batch)
            for row in head.say(states.to(device).float()).tolist()
        ]
        found |= {f"{task}-{name}": values for name, values in by_domain(said, test, more).items()}
    return found
