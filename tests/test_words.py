"""Proves which texts count as captions, in whichever file they come."""

import pytest

from flip.formats.words import has_words

WORDS = [
    "a boat", "nan", "NaN", "None", "7", "é", "船", "мяч", "२", "⭐", "\u2764\ufe0f", "🇩🇪", "a\tkey\nat night",
    "\u2028star\u2028", "\u200bhidden\u200b", "½", "x\ufffd", "e\u0301",
]  # fmt: skip
NO_WORDS = [
    "", "   ", "\t\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u00ad", "\u2060\u200d\u200e", "\u2028",
    "\u0085", "\x00", "\x1b", "\ufffd", "\ufffd \ufffd", "\ufffc", "\u0301", "\ufe0f", "\ue000", "\U000f0000", "\u0378",
    "\ud800", "\u3164", "\u115f\u1160", "\uffa0", "\u2800", "?!", "...", "-", "_", "|", "***", "+", "$",
]  # fmt: skip


@pytest.mark.parametrize("text", WORDS, ids=ascii)
def test_a_letter_a_number_or_a_pictograph_is_a_word(text):
    assert has_words(text)
    assert has_words(f"\u200b {text} \ufffd")


@pytest.mark.parametrize("text", NO_WORDS, ids=ascii)
def test_what_shows_nothing_or_only_signs_is_none(text):
    assert not has_words(text)
    assert not has_words(100 * text)
