"""Define English, where adjectives are not inflected."""

from pathlib import Path
from typing import Any

from flip.synthetic.languages.base import Language, Named


def plural(noun: str) -> str:
    """Return the plural of a noun."""
    if noun.endswith(("fish", "carp")):
        return noun
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


def article(phrase: str) -> str:
    """Return a phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiouAEIOU' else 'a'} {phrase}"


class English(Language):
    """Say it in English."""

    def one(self, noun: Any) -> str:
        return noun

    def many(self, noun: Any) -> str:
        return plural(noun)

    def tag(self, look: Any, noun: Any) -> str:
        return look

    def say(self, named: Named, case: str = "") -> str:
        """Return 'a striped red star', 'two red stars', 'a star in red', 'red star'."""
        if named.number:
            return " ".join([named.number, *named.looks, plural(named.noun)])
        phrase = " ".join([*named.looks, named.noun])
        phrase = article(phrase) if named.article else phrase
        return f"{phrase} in {named.hue}" if named.in_colour else phrase


ENGLISH = English(Path(__file__).with_suffix(".yaml"))
