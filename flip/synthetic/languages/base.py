"""Describe a language of synthetic captions: words for all that can be said, and the grammar that combines them.

Which synonym is used, what is left out and in which order things are named is drawn independently of the language
(flip.synthetic.captions). So each table has as many words as the English one, and the same draws give captions of the
same meaning in every language.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


def relation(text: str) -> str | tuple[str, str]:
    """Read the entry of a relation: words, or (words, the case that they govern)."""
    words, _, case = text.partition(" + ")
    return (words, case) if case else words


@dataclass(frozen=True)
class Named:
    """Hold what a caption says of a thing, or of several alike: entries of a language's tables, or None."""

    noun: Any
    hue: Any
    kind: Any  # texture
    number: Any = None  # of several things
    hue_first: bool = True
    article: bool = False
    in_colour: bool = False  # "a star in red"

    @property
    def looks(self) -> list[Any]:
        """Return colour and texture in their order, without a colour that comes at the end."""
        words = [None if self.in_colour else self.hue, self.kind]
        return [word for word in (words if self.hue_first else words[::-1]) if word is not None]


class Language:
    """Hold a language's words, from a YAML file: tables from what scenes are made of to words, the usual one first. A
    grammar says what forms an entry has (`noun`, `colour`), and inflects them."""

    def __init__(self, path: Path) -> None:
        words = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)

        def table(name: str, entry: Callable[[str], Any]) -> dict[str, tuple[Any, ...]]:
            return {key: tuple(map(entry, some)) for key, some in words[name].items()}

        self.invariable = frozenset(words.get("invariable", ()))  # adjectives that agree with nothing
        self.shapes = table("shapes", self.noun)
        self.things = tuple(map(self.noun, words["things"]))  # things of any shape
        self.colours = table("colours", self.colour)
        self.textures, self.backgrounds = table("textures", str), table("backgrounds", str)
        self.tags: dict[str, str] = words["tags"]  # backgrounds as keywords
        self.relations = table("relations", relation)
        # Joins two things without saying how they lie.
        self.loosely = tuple(map(relation, words["loosely"]))
        self.numbers = tuple(map(tuple, words["numbers"]))  # two things, three things
        self.conjunction: str = words["conjunction"]
        self.before, self.after = tuple(words["before"]), tuple(words["after"])
        self.longest: int = words.get("longest", 20)  # words of a caption

    def noun(self, text: str) -> Any:
        """Read a noun's entry."""
        return text

    def colour(self, text: str) -> Any:
        """Read a colour's entry."""
        return text

    def one(self, noun: Any) -> str:
        """Return the noun alone."""
        return noun.one

    def many(self, noun: Any) -> str:
        """Return its plural alone."""
        return noun.many

    def tag(self, look: Any, noun: Any) -> str:
        """Return a colour or texture of the noun as a keyword."""
        raise NotImplementedError

    def say(self, named: Named, case: str = "nominative") -> str:
        """Return the thing in words, in a case."""
        raise NotImplementedError

    def join(self, first: Named, relation: str | tuple[str, str], second: Named) -> str:
        """Return one thing and where it is, or what it is with; relations are as `relation` reads them."""
        words, case = (relation, "") if isinstance(relation, str) else relation
        return f"{self.say(first)} {words} {self.say(second, case)}"
