"""Score captions by the words of all: the higher, the rather a pair is kept."""

import math
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from flip.config.sections.curation import Curation
from flip.curate.captions import is_word, mentioned, words

Score = Callable[[str, str], float]  # of a key and a caption
LONGEST = 30  # words of a caption that count, as in WFPP's released code
NEVER = -math.inf


def frequency(counts: Mapping[str, int], threshold: float) -> Score:
    """Return the score of WFPP (Liang and Larson 2024, arXiv 2410.10879; as in its released code): (1 - the product of
    P(w) over a caption's words) / their number, where P(w) = 1 - sqrt(threshold / f(w)).

    Words that are rarer than the threshold, or have no count, have no part in the product.
    """
    common = {word: count for word, count in counts.items() if is_word(word)}
    total = sum(common.values())
    removed = {word: 1 - math.sqrt(threshold * total / count) for word, count in common.items()}
    removed = {word: share for word, share in removed.items() if share >= 0}

    def score(_: str, caption: str) -> float:
        found = words(caption)[:LONGEST]
        return (1 - math.prod(removed.get(word, 1.0) for word in found)) / len(found) if found else NEVER

    return score


def draw(seed: int, key: str, entry: str) -> float:
    """Draw a uniform number in [0, 1) that follows from seed, key and entry alone."""
    digest = blake2b(f"{seed}\0{key}\0{entry}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) * 2.0**-53


def balance(counts: Mapping[str, int], cap: float, entries: Callable[[str], Iterable[str]], seed: int) -> Score:
    """Return the score of MetaCLIP (Xu et al. 2024, arXiv 2309.16671, algorithm 1): a pair is kept, with a score of 0
    or more, if one of its caption's entries draws below its probability, min(cap / captions that have it, 1).

    Entries without a count are in `cap` captions at most.
    """

    def score(key: str, caption: str) -> float:
        draws = (min(cap / counts.get(entry, cap), 1.0) - draw(seed, key, entry) for entry in entries(caption))
        return max(draws, default=NEVER)

    return score


def captions_of_an_entry(curation: Curation, pairs: int) -> float:
    """Return of how many captions of an entry `balance` keeps each, of so many pairs."""
    assert curation.cap is not None
    return curation.cap * pairs


def by_words(curation: Curation, counts: Mapping[str, int], pairs: int, seed: int) -> Score:
    """Return the score of a policy that reads words, of which there are counts over so many pairs."""
    if curation.policy == "frequency":
        assert curation.word_threshold is not None
        return frequency(counts, curation.word_threshold)
    return balance(counts, captions_of_an_entry(curation, pairs), mentioned(curation), seed)
