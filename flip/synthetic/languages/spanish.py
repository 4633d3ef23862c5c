"""Define Spanish: two genders; adjectives follow the noun and agree with it, unless they are nouns (naranja)."""

from pathlib import Path
from typing import Any, NamedTuple

from flip.synthetic.languages.base import Language, Named


class SpanishNoun(NamedTuple):
    """Hold the forms of a noun; none begins with a stressed a-, which would take "un" though feminine."""

    article: str  # un, una: its gender
    one: str
    many: str


class Spanish(Language):
    """Say it in Spanish."""

    def noun(self, text: str) -> SpanishNoun:
        """Read 'una luna lunas'."""
        return SpanishNoun(*(part.replace("_", " ") for part in text.split()))

    def agreeing(self, word: str, noun: SpanishNoun, several: bool) -> str:
        """Return a word, given as masculine singular, in agreement with the noun: roja, rojos, azules."""
        if word in self.invariable:
            return word
        if word.endswith("o"):
            word = word[:-1] + ("a" if noun.article == "una" else "o")
        return word + ("" if not several else "s" if word[-1] in "aeo" else "es")

    def tag(self, look: Any, noun: Any) -> str:
        return self.agreeing(look, noun, False)

    def say(self, named: Named, case: str = "") -> str:
        """Return 'una estrella roja a rayas', 'varias estrellas azules', 'una estrella en rojo'."""
        noun, number = named.noun, named.number
        adjectives = [self.agreeing(word, noun, number is not None) for word in named.looks]
        if number:
            return " ".join(
                [self.agreeing("vario", noun, True) if number == "varios" else number, noun.many, *adjectives]
            )
        words = [*([noun.article] if named.article else []), noun.one, *adjectives]
        return " ".join(words) + (f" en {named.hue}" if named.in_colour else "")


SPANISH = Spanish(Path(__file__).with_suffix(".yaml"))
