"""Captioning: a head learns to say what a picture shows, and what it says of others is compared with their captions."""

import numpy as np
import torch

from flip.schema_transfer import Transfer
from flip.transfer import scores
from flip.transfer.fit import fit
from flip.transfer.heads import Captioner
from flip.transfer.splits import Split
from flip.transfer.words import Vocabulary, words


def scored(captions: list[str], references: list[list[str]]) -> dict[str, np.ndarray]:
    """CIDEr-D, 10 at most, and BLEU-4, 1 at most, as values per picture whose means they are: float32 [pictures]."""
    said, right = [words(one) for one in captions], [[words(one) for one in some] for some in references]
    found = {"cider": scores.cider(said, right), "bleu4": scores.bleu(said, right)}
    return {name: values.astype(np.float32) for name, values in found.items()}


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


def outcomes(training: Split, test: Split, transfer: Transfer, seed: int, device: str) -> dict[str, np.ndarray]:
    """By score, what `scored` says of the head's captions of the test pictures."""
    head, vocabulary = learned(training, transfer, seed, device)
    said = [
        vocabulary.decode(row)
        for states in test.states.split(transfer.batch)
        for row in head.say(states.to(device).float()).tolist()
    ]
    return scored(said, test.notes)
