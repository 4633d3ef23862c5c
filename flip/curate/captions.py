"""Read captions of a part with their keys, and split them into words."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from flip.config.sections.curation import Curation
from flip.data.pairs import batches
from flip.data.word_counts import split_words

PUNCTUATION = re.compile(r"([,.;:?!`])")


def first_captions(samples: str | Path) -> Iterator[tuple[str, str]]:
    """Yield key and first caption of each sample of a part's list (samples.parquet), in the order of its shards."""
    tables = batches([str(samples)], ["key", "caption", "sha256"])
    rows = (row for table in tables for row in zip(table["key"].to_pylist(), table["caption"].to_pylist(), strict=True))
    for _, same in groupby(rows, key=lambda row: row[0]):
        yield next(same)


def is_word(found: str) -> bool:
    """Tell a word from punctuation."""
    return found[0].isalnum()


def words(caption: str) -> list[str]:
    """Return the words of a caption, in small letters, without punctuation."""
    return [word for word in split_words(caption) if is_word(word)]


def spaced(text: str) -> list[str]:
    """Return a text's tokens between spaces, in small letters, punctuation by itself (MetaCLIP's spacing)."""
    return PUNCTUATION.sub(r" \1 ", text.lower()).split()


class EntryMatcher:
    """Find entries in captions, as substrings that begin and end at spaces or punctuation (MetaCLIP, Xu et al. 2024).

    A caption's runs of tokens are looked up, which takes as long whatever the number of entries.
    """

    def __init__(self, entries: Iterable[str]):
        self.known = {tuple(found) for entry in entries if (found := spaced(entry))}
        self.lengths = sorted({len(one) for one in self.known})

    def __call__(self, caption: str) -> set[str]:
        tokens = spaced(caption)
        runs = {tuple(tokens[at : at + size]) for size in self.lengths for at in range(len(tokens) - size + 1)}
        return {" ".join(one) for one in runs & self.known}


def mentioned(curation: Curation) -> Callable[[str], Iterable[str]]:
    """Return the function from a caption to its entries, each once; without a list of them, to its words."""
    if curation.entries is None:
        return lambda caption: set(words(caption))
    return EntryMatcher(Path(curation.entries).read_text().splitlines())
