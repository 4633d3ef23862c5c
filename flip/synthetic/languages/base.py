"""What a language is to the world's captions: words for all that can be said, and the grammar that puts them together.

Which of several words is taken, what is left out and in which order things are told is decided without knowing the
language (flip.synthetic.captions). So each table has as many words as the English one, and the same draws give
captions that say the same in every language.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Named:
    """What a caption says of a thing, or of several alike: entries of a language's tables; None is not told."""

    noun: Any
    hue: Any
    kind: Any  # texture
    number: Any = None  # of several things
    hue_first: bool = True
    article: bool = False
    in_colour: bool = False  # "a star in red"

    @property
    def told(self) -> list:
        """Colour and texture, in their order, but for a colour that is told at the end."""
        words = [None if self.in_colour else self.hue, self.kind]
        return [word for word in (words if self.hue_first else words[::-1]) if word is not None]


class Language:
    """Tables from what scenes are made of to words, the usual one first, and the methods that inflect them."""

    shapes: dict[str, tuple]
    things: tuple  # a thing of any shape
    colours: dict[str, tuple]
    textures: dict[str, tuple]
    backgrounds: dict[str, tuple[str, ...]]
    tags: dict[str, str]  # backgrounds as keywords
    relations: dict[str, tuple]
    loosely: tuple  # what stands between two things where no one cares how they lie
    numbers: tuple  # two things, three things
    conjunction: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    longest = 20  # words of a caption

    def one(self, noun) -> str:
        """The noun alone."""
        return noun.one

    def many(self, noun) -> str:
        """Its plural alone."""
        return noun.many

    def tag(self, told, noun) -> str:
        """A colour or texture of the noun as a keyword."""
        raise NotImplementedError

    def say(self, named: Named, case: str = "nominative") -> str:
        raise NotImplementedError

    def join(self, first: Named, relation, second: Named) -> str:
        """One thing and where it is, or what it is with; relations are words, or (words, the case that they govern)."""
        words, case = (relation, "") if isinstance(relation, str) else relation
        return f"{self.say(first)} {words} {self.say(second, case)}"
