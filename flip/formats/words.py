"""Decide what counts as a caption, for all stages: text with a word in it."""

from unicodedata import category

# By Unicode letters or symbols, but nothing is seen of them: fillers of Hangul and Braille, and what stands where an
# object or a character was lost.
EMPTY = frozenset("\u115f\u1160\u3164\uffa0\u2800\ufffc\ufffd")


def has_words(text: str) -> bool:
    """Tell whether a letter, a number or a pictograph (emoji) is in a text.

    Spaces, control and format characters, marks, private characters, punctuation and the signs of mathematics are none,
    however many there are.
    """
    return any(_is_word(character) for character in text)


def _is_word(character: str) -> bool:
    kind = category(character)
    return (kind[0] in "LN" or kind == "So") and character not in EMPTY
