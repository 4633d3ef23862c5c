"""Score the tokens of captions by the words that they are of, for masks that remove the lowest scores first.

Tokenizers cut words into tokens. A token belongs to the word that its tokenizer says (WordPiece's `##`, the end mark of
CLIP's BPE), and all tokens of a word have one score. The words of the file (flip.data.word_table) are found again by
their tokens: where several have the same tokens, as those that differ in accents may, counts are added.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flip.config.sections.data import ENGLISH
from flip.config.sections.masking import Masking
from flip.data.batch_types import PAD, Batch
from flip.data.syntax import PARTS, part_of_speech
from flip.data.tokenizer import CaptionTokenizer, clip_vocabulary
from flip.data.word_table import read_counts
from flip.rng import random_bits, uniform

KEEP = np.inf  # start and end tokens
BATCH = 65_536  # words that are looked up at a time
Starts = Callable[[np.ndarray], np.ndarray]  # ids -> where a word begins, bool, same shape


def word_starts(tokenizer: CaptionTokenizer) -> Starts:
    """Return a function that says where words begin in token ids, int64 [rows, slots], special tokens and padding each
    being a word.

    Raises:
        ValueError: ids do not say it: the tokenizer is neither WordPiece nor CLIP's BPE.
    """
    special = [*tokenizer.before, *tokenizer.after, PAD]
    if tokenizer.stored["kind"] == "clip":
        ends = _marked(tokenizer, clip_vocabulary(), lambda token: token.endswith("</w>"))
        ends[special] = True
        return lambda ids: np.isin(ids, special) | np.pad(ends[ids[:, :-1]], ((0, 0), (1, 0)), constant_values=True)
    model = tokenizer.stored["definition"]["model"]
    if model["type"] != "WordPiece":
        raise ValueError(
            f"masking.text_policy chooses by words, and the ids of a {model['type']} tokenizer do not say where they "
            "begin; use WordPiece or CLIP's BPE, or another policy"
        )
    inside = _marked(tokenizer, model["vocab"], lambda token: token.startswith(model["continuing_subword_prefix"]))
    return lambda ids: np.pad(~inside[ids[:, 1:]], ((0, 0), (1, 0)), constant_values=True)


def _marked(tokenizer: CaptionTokenizer, known: Mapping[str, int], is_marked: Callable[[str], bool]) -> np.ndarray:
    """Return which ids have a mark: bool [vocabulary + 1], of which the last is padding's."""
    found = np.zeros(tokenizer.vocabulary + 1, dtype=bool)
    found[[number for token, number in known.items() if is_marked(token)]] = True
    return found


class TokenWords:
    """Find the words in token ids, by 64-bit hashes of their tokens.

    Raises:
        ValueError: as `word_starts`.
    """

    def __init__(self, tokenizer: CaptionTokenizer):
        self.tokenizer, self.starts = tokenizer, word_starts(tokenizer)
        draws = random_bits(0, "words", torch.zeros(1, dtype=torch.long), tokenizer.slots)
        self.factors = 2 * draws.numpy().astype(np.uint64)[0] + 1

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each of ids, int64 [rows, slots], the slot that its word begins in, int64, and its word's hash,
        uint64."""
        slots, begins = np.arange(ids.shape[1]), self.starts(ids)
        first = np.maximum.accumulate(np.where(begins, slots, 0), axis=1)
        terms = (ids + 2).astype(np.uint64) * self.factors[slots - first]
        sums = np.add.reduceat(terms.ravel(), np.flatnonzero(begins))
        return first, sums[np.cumsum(begins) - 1].reshape(ids.shape)

    def hashes_of(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the hashes of what the tokenizer takes as words in `words`, uint64, and the number of the word that
        each is from, int64. Words of more tokens than a caption has slots are left out: none is ever seen whole."""
        parts = [self._hashes_of(words[first : first + BATCH]) for first in range(0, len(words) or 1, BATCH)]
        numbers = [number + place * BATCH for place, (_, number) in enumerate(parts)]
        return np.concatenate([hashes for hashes, _ in parts]), np.concatenate(numbers)

    def _hashes_of(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        rows, slots = self.tokenizer.encode(words), self.tokenizer.slots
        ids = np.full((len(rows), slots), PAD)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens if len(tokens) <= slots else PAD
        first, hashes = self.find(ids)
        own = (first == np.arange(slots)) & (ids != PAD)
        return hashes[own], np.nonzero(own)[0]


class WordValues:
    """Look up a value per word: `known` hashes, ascending, with their `values`; `unknown` for all others."""

    def __init__(self, known: np.ndarray, values: np.ndarray, unknown: float):
        self.known, self.values, self.unknown = known, values, unknown

    def __call__(self, hashes: np.ndarray) -> np.ndarray:
        if not len(self.known):
            return np.full(hashes.shape, self.unknown)
        place = np.searchsorted(self.known, hashes).clip(max=len(self.known) - 1)
        return np.where(self.known[place] == hashes, self.values[place], self.unknown)


def removal(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Return the probability that a word is masked, by its count: 1 - sqrt(t / f), where f is its share of all words
    (CLIPF, Liang and Larson 2026, arXiv 2412.16148); 0 where it is rarer than t."""
    return 1 - np.sqrt(np.minimum(threshold * counts.sum() / counts, 1))


def frequency_values(words: TokenWords, counts: Mapping[str, int], masking: Masking) -> WordValues:
    """Map words to minus their probability of being masked; words without a count are masked first, as in CLIPF's
    code."""
    hashes, word = words.hashes_of([*counts])
    known, place = np.unique(hashes, return_inverse=True)
    total = np.bincount(place, np.array([*counts.values()])[word])
    return WordValues(known, -removal(total, masking.frequency_threshold), -1.0)


def syntax_values(words: TokenWords, counts: Mapping[str, int], masking: Masking) -> WordValues:
    """Map words to minus the place of their part of speech in `PARTS`; a word that is not in the file is a noun. Of
    words with the same tokens the most frequent counts, which comes first."""
    places = np.array([PARTS.index(part_of_speech(word, ENGLISH)) for word in counts], dtype=np.float64)
    hashes, word = words.hashes_of([*counts])
    known, first = np.unique(hashes, return_index=True)
    return WordValues(known, -places[word[first]], 0.0)


VALUES: dict[str, Callable[[TokenWords, Mapping[str, int], Masking], WordValues]] = {
    "frequency": frequency_values,
    "syntax": syntax_values,
}


class WordScores:
    """Add to a batch `token_scores`, float64 [batch, slots]: of its caption's tokens, the highest are kept.

    `frequency` adds a uniform number per word, a function of (seed, position, slot), as CLIPF's code; `syntax` draws
    nothing.

    Raises:
        ValueError: there is no file of words, or a tokenizer whose ids do not say where words begin.
    """

    def __init__(self, masking: Masking, tokenizer: CaptionTokenizer, path: Path, seed: int):
        self.words, self.seed, self.random = TokenWords(tokenizer), seed, masking.text_policy == "frequency"
        self.values = VALUES[masking.text_policy](self.words, read_counts(path), masking)
        self.special = [*tokenizer.before, *tokenizer.after]

    def __call__(self, batch: Batch) -> Batch:
        if "ids" not in batch:
            return batch
        ids = batch["ids"].numpy()
        first, hashes = self.words.find(ids)
        scores = self.values(hashes)
        if self.random:
            scores = scores + np.take_along_axis(self._draws(batch["positions"], ids.shape[1]), first, axis=1)
        scores = np.where(np.isin(ids, self.special), KEEP, scores)
        return batch | {"token_scores": torch.from_numpy(scores)}

    def _draws(self, positions: Tensor, slots: int) -> np.ndarray:
        return uniform(self.seed, "text", positions, slots).numpy()
