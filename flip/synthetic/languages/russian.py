"""Define Russian: three genders, six cases, no articles.

After two and three, nouns are in the genitive singular, after "пара" and "несколько" in the genitive plural. ё is
written.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from flip.synthetic.languages.base import Language, Named


class RussianNoun(NamedTuple):
    """Hold the forms of a noun."""

    gender: str  # m, f, n
    nominative: str
    genitive: str
    instrumental: str
    prepositional: str
    many: str
    of_many: str  # genitive plural


# Endings of adjectives by case and gender; `many` and `of_many` are plurals.
HARD: dict[str, Any] = {
    "nominative": {"m": "ый", "f": "ая", "n": "ое"},
    "genitive": {"m": "ого", "f": "ой", "n": "ого"},
    "instrumental": {"m": "ым", "f": "ой", "n": "ым"},
    "prepositional": {"m": "ом", "f": "ой", "n": "ом"},
    "many": "ые",
    "of_many": "ых",
}
SOFT: dict[str, Any] = {
    "nominative": {"m": "ий", "f": "яя", "n": "ее"},
    "genitive": {"m": "его", "f": "ей", "n": "его"},
    "instrumental": {"m": "им", "f": "ей", "n": "им"},
    "prepositional": {"m": "ем", "f": "ей", "n": "ем"},
    "many": "ие",
    "of_many": "их",
}


def is_adjective(word: str) -> bool:
    """Return whether a word is an adjective; others are phrases that follow the noun: в полоску."""
    return word.endswith(("ый", "ой", "ий"))


def declined(word: str, case: str, gender: str) -> str:
    """Inflect an adjective, given as its masculine nominative; `case` may be `many` or `of_many`, too."""
    endings = (SOFT if word.endswith("ий") else HARD)[case]
    ending = endings if isinstance(endings, str) else endings[gender]
    return word if (case, gender) == ("nominative", "m") else word[:-2] + ending


class Russian(Language):
    """Say it in Russian."""

    def noun(self, text: str) -> RussianNoun:
        """Read 'f звезда звезды звездой звезде звёзды звёзд'."""
        return RussianNoun(*text.split())

    def one(self, noun: Any) -> str:
        return noun.nominative

    def tag(self, look: Any, noun: Any) -> str:
        return declined(look, "nominative", noun.gender) if is_adjective(look) else look

    def say(self, named: Named, case: str = "nominative") -> str:
        """Return 'красная звезда в полоску', 'две красные звезды', 'пара красных звёзд', 'звезда красного цвета'."""
        noun, number, form, adjectives = named.noun, [], case, case
        if named.number in ("пара", "несколько"):
            number, form, adjectives = [named.number], "of_many", "of_many"
        elif named.number:
            words = named.number.split()
            number, form = [words[-1] if noun.gender == "f" else words[0]], "genitive"
            adjectives = "many" if noun.gender == "f" else "of_many"
        before = [declined(word, adjectives, noun.gender) for word in named.looks if is_adjective(word)]
        behind = [word for word in named.looks if not is_adjective(word)]
        colour = [declined(named.hue, "genitive", "m"), "цвета"] if named.in_colour else []
        return " ".join([*number, *before, getattr(noun, form), *behind, *colour])

    def join(self, first: Named, relation: str | tuple[str, str], second: Named) -> str:
        """Join two things; with "со" before two consonants of which the first is a sibilant: со звездой."""
        return re.sub(r"\bс (?=[сзшж][бвгджзйклмнпрстфхцчшщ])", "со ", super().join(first, relation, second))


RUSSIAN = Russian(Path(__file__).with_suffix(".yaml"))
