"""Encode texts by a vocabulary of whole words, the same for all variants of a scale, whichever tokenizer they use.

Words are in lower case without punctuation, as COCO's captions are before scoring (there by Stanford's tokenizer).
"""

import re
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ("", "", "", "unknown")


def words(text: str) -> list[str]:
    """Split a text into words in lower case, without punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


class Vocabulary:
    """Hold the words that occur at least `least` times in `texts`; a text is cut to its first `slots` words."""

    def __init__(self, texts: Iterable[str], least: int, slots: int) -> None:
        counts = Counter(word for text in texts for word in words(text))
        self.slots = slots
        self.known = [*SPECIAL, *sorted(word for word, count in counts.items() if count >= least)]
        self.ids = {word: number for number, word in enumerate(self.known) if word}

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, texts: list[str], framed: bool = False) -> Tensor:
        """Return ids, int64 [texts, slots], padded with PAD; if `framed`, between START and END, [texts, slots + 2]."""
        ids = torch.full((len(texts), self.slots + 2 * framed), PAD)
        for row, text in zip(ids, texts, strict=True):
            found = [self.ids.get(word, UNKNOWN) for word in words(text)][: self.slots]
            found = [START, *found, END] if framed else found
            row[: len(found)] = torch.tensor(found, dtype=torch.int64)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids up to END."""
        end = ids.index(END) if END in ids else len(ids)
        return " ".join(self.known[number] for number in ids[:end] if number not in (PAD, START))
