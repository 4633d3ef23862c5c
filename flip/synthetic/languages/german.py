"""Define German: three genders; adjectives agree with article, gender and case; nouns are capitalized."""

from pathlib import Path
from typing import Any, NamedTuple

from flip.synthetic.languages.base import Language, Named


class GermanNoun(NamedTuple):
    """Hold the forms of a noun."""

    article: str  # der, die, das: its gender
    one: str
    many: str
    dative: str | None = None  # where it is not like the nominative


class Colour(NamedTuple):
    """Hold the forms of a colour; some are never inflected."""

    adjective: str
    noun: str  # as in "ein Stern in Rot"
    declined: bool = True


# Endings of adjectives by gender, after "ein" and without an article; in the plural without an article it is -e.
AFTER_EIN = {
    "nominative": {"der": "er", "die": "e", "das": "es"},
    "dative": {"der": "en", "die": "en", "das": "en"},
}
BARE = {"nominative": AFTER_EIN["nominative"], "dative": {"der": "em", "die": "er", "das": "em"}}
EIN = {
    "nominative": {"der": "ein", "die": "eine", "das": "ein"},
    "dative": {"der": "einem", "die": "einer", "das": "einem"},
}


def declined(look: Colour | str, ending: str) -> str:
    """Return the adjective of a colour or texture with an ending."""
    word = look.adjective if isinstance(look, Colour) else look
    return word if isinstance(look, Colour) and not look.declined else word + ending


class German(Language):
    """Say it in German."""

    def noun(self, text: str) -> GermanNoun:
        """Read 'der Ball Bälle'."""
        return GermanNoun(*text.split())

    def colour(self, text: str) -> Colour:
        """Read 'rot Rot'."""
        adjective, noun = text.split()
        return Colour(adjective, noun, adjective not in self.invariable)

    def tag(self, look: Any, noun: Any) -> str:
        return declined(look, "")

    def say(self, named: Named, case: str = "nominative") -> str:
        """Return 'ein gestreifter roter Stern', 'zwei rote Sterne'; dative: 'einem roten Stern', 'rotem Stern'."""
        noun = named.noun
        if named.number:
            return " ".join([named.number, *(declined(look, "e") for look in named.looks), noun.many])
        ending = (AFTER_EIN if named.article else BARE)[case][noun.article]
        words = [EIN[case][noun.article]] if named.article else []
        words += [declined(look, ending) for look in named.looks]
        words.append((case == "dative" and noun.dative) or noun.one)
        return " ".join(words) + (f" in {named.hue.noun}" if named.in_colour else "")


GERMAN = German(Path(__file__).with_suffix(".yaml"))
