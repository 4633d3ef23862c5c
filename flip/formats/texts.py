"""Hold the captions of an image together, also in one text, where a table or a tar has room for one.

No caption has a NUL in it: one is between two captions, and two are before the synthetic ones.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

SEPARATOR = "\0"
SYNTHETIC = "\0\0"


class Texts(NamedTuple):
    """Hold the captions of an image: its own, and synthetic ones, which a model has written."""

    own: Sequence[str]
    synthetic: Sequence[str] = ()

    @property
    def all(self) -> list[str]:
        """Return all captions, the image's own first."""
        return [*self.own, *self.synthetic]

    def only(self, test: Callable[[str], bool]) -> "Texts":
        """Return those captions that pass a test."""
        return Texts(list(filter(test, self.own)), list(filter(test, self.synthetic)))

    @property
    def joined(self) -> str:
        """Return them as one text."""
        own, synthetic = (SEPARATOR.join(filter(None, some)) for some in self)
        return f"{own}{SYNTHETIC}{synthetic}" if synthetic else own


def split(text: str) -> Texts:
    """Return the captions of a text that has them joined."""
    own, _, synthetic = text.partition(SYNTHETIC)
    return Texts(*([one for one in some.split(SEPARATOR) if one] for some in (own, synthetic)))


def merged(texts: Iterable[str]) -> str:
    """Return as one text the captions of several joined ones, each caption once."""
    parts = list(map(split, texts))
    return Texts(*(list(dict.fromkeys(one for part in parts for one in part[number])) for number in (0, 1))).joined
