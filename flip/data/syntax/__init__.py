"""Tell nouns, adjectives and verbs by lists of words and suffixes, a file per language here; nothing is downloaded.

Each word has one part of speech, whatever stands beside it: which words a caption keeps then follows from a table.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

PARTS = ("noun", "adjective", "verb", "other")  # in the order in which they are kept


@cache
def _lists(language: str) -> dict[str, Any]:
    """Read a language's file.

    Raises:
        ValueError: there is none.
    """
    path = Path(__file__).with_name(f"{language}.yaml")
    if not path.exists():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.yaml")))
        raise ValueError(f"no parts of speech are known of the language '{language}'; known: {known}")
    return yaml.safe_load(path.read_text())


def words_of(language: str, part: str) -> list[str]:
    """Return the words that are listed as a part of speech.

    Raises:
        ValueError: nothing is known of the language.
    """
    return _lists(language)["words"][part].split()


@cache
def _listed(language: str) -> dict[str, str]:
    """Map the words of a language's lists to their parts; where a word is in several, the first of `PARTS` counts."""
    return {word: part for part in reversed(PARTS) for word in words_of(language, part)}


@cache
def _suffixes(language: str) -> list[tuple[str, str]]:
    """Return (suffix, part), the longest first."""
    found = [(suffix, part) for part, some in _lists(language)["suffixes"].items() for suffix in some]
    return sorted(found, key=lambda pair: (-len(pair[0]), pair[0]))


def part_of_speech(word: str, language: str) -> str:
    """Return which of `PARTS` a word in lower case is; numbers and punctuation are other.

    Raises:
        ValueError: nothing is known of the language.
    """
    if part := _listed(language).get(word):
        return part
    if not word.isalpha():
        return "other"
    stem = _lists(language)["stem"]
    ends = (part for suffix, part in _suffixes(language) if word.endswith(suffix) and len(word) - len(suffix) >= stem)
    return next(ends, "noun")
