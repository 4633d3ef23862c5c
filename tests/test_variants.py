"""The variants that stand for all in other tests leave out no objective, no way of masking and no kind of tower."""

import pytest

from flip.config.objectives import NAMES
from tests.variants import DRAW_BESIDE_WORDS, DRAW_PATCHES, EVERY_KIND


def test_every_objective_is_among_them(project):
    trained = {name for one in EVERY_KIND for name in NAMES if getattr(project.resolve(one), name).wanted}
    assert trained == set(NAMES)


# Policies of masking order slots, and nothing else: test_masking holds each to its position alone.
@pytest.mark.parametrize("key", ["form.text.pooling", "form.text.causal", "generative.encoder"])
def test_every_choice_of_a_key_is_among_them(project, key):
    def value(name):
        found = project.resolve(name)
        for part in key.split("."):
            found = getattr(found, part)
        return found

    assert {value(one) for one in EVERY_KIND} == {value(one) for one in project.variants}


def test_those_that_draw_are_all_that_do(project):
    kinds = {name: one for name, one in project.variants.items() if one.reconstruction.wanted or one.generative.pixels}
    assert {*DRAW_PATCHES, *DRAW_BESIDE_WORDS} <= kinds.keys()
    assert all(kinds[name].reconstruction.wanted for name in DRAW_PATCHES)
    assert all(kinds[name].generative.pixels for name in DRAW_BESIDE_WORDS)
