"""Texts as numbers: a vocabulary of whole words, the same for all variants of a scale, whatever tokenizer they read by.

Words are lower-cased and lose their punctuation, as before COCO's captions are scored (there by Stanford's tokenizer).
"""

import re
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ("", "", "", "unknown")


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


class Vocabulary:
    """Of the words that occur at least `least` times in `texts`; a text becomes at most `slots` of them."""

    def __init__(self, texts: Iterable[str], least: int, slots: int):
        counts = Counter(word for text in texts for word in words(text))
        self.slots = slots
        self.known = [*SPECIAL, *sorted(word for word, count in counts.items() if count >= least)]
        self.ids = {word: number for number, word in enumerate(self.known) if word}

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, texts: list[str], framed: bool = False) -> Tensor:
        """int64 [texts, slots], padded with PAD; if `framed`, START before and END after each, in two more slots."""
        ids = torch.full((len(texts), self.slots + 2 * framed), PAD)
        for row, text in zip(ids, texts, strict=True):
            found = [self.ids.get(word, UNKNOWN) for word in words(text)][: self.slots]
            found = [START, *found, END] if framed else found
            row[: len(found)] = torch.tensor(found, dtype=torch.int64)
        return ids

    def decode(self, ids: list[int]) -> str:
        """The words up to END."""
        end = ids.index(END) if END in ids else len(ids)
        return " ".join(self.known[number] for number in ids[:end] if number not in (PAD, START))
