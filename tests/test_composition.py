"""Pairs of captions: right ones are right, wrong ones are wrong in the way of their kind, swaps have the same words; an
oracle scores 100, its opposite 0, and who cannot tell captions apart, or guesses, chance."""

import tarfile
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import simplejpeg
import torch

from flip.config.kinds.composition import Pair, counted, samples
from flip.evaluate.kinds.composition import outcomes, preference
from flip.files import read_json
from flip.formats.contents import add
from flip.losses import build_towers
from flip.metrics.names import Metric
from flip.synthetic import testsets
from flip.synthetic.composition import (
    CHANGES,
    caption,
    differ_in_one_place,
    has_same_words,
    pair,
    related,
    relations,
)
from flip.synthetic.scenes import Scene, Thing, stream
from flip.synthetic.shifts import annotations, jpeg_of, scene_of
from flip.testsets.revision import revision
from tests.conftest import SMALL

STAR = Thing("star", "red", "usual", 0.4, -0.25, -0.25, 0.0)
BALL = replace(STAR, shape="ball", colour="blue", x=0.25)
KEY = replace(STAR, shape="key", colour="pink", x=0.25, y=0.25)
GROUP = Scene((STAR, KEY, BALL), None, "grass", 96, 96, "look")
IMAGES = 60


@pytest.fixture(scope="module")
def world(change):
    return change("clip", {"world": {"tests": {"pointing": IMAGES}}}).world


@pytest.fixture(scope="module")
def folder(change, tmp_path_factory):
    place = tmp_path_factory.mktemp("composition")
    testsets.make(change("clip", {"world": {"tests": {"pointing": IMAGES}}}), "composition", place)
    return place


def test_relations_are_where_things_lie():
    assert relations(STAR, BALL) == ["left of"]
    assert relations(BALL, STAR) == ["right of"]
    assert relations(BALL, KEY) == ["above"]
    assert relations(KEY, STAR) == ["right of", "below"]
    scene = related(GROUP, Random(0))  # the key lies across
    assert (scene.things, scene.relation) == ((STAR, BALL), "left of")


def test_pairs_by_kind():
    scene, random = related(GROUP, Random(0)), Random(1)
    changed = {kind: change(scene, random) for kind, change in CHANGES.items()}
    assert changed["replace-object"].main.shape not in {"star", "ball"}
    assert changed["replace-attribute"].main.colour not in {"red", "blue"}
    assert changed["replace-relation"].relation == "right of"
    assert [thing.colour for thing in changed["swap-attribute"].things] == ["blue", "red"]
    assert changed["swap-relation"].things == (BALL, STAR)
    for kind in CHANGES:
        for seed in range(40):
            one = pair(scene, kind, Random(seed))
            assert has_same_words(one.right, one.wrong) == kind.startswith("swap")
            assert one.right.lower() != one.wrong.lower()
            if kind.startswith("replace"):
                left, right = (Counter(text.split()) for text in (one.right, one.wrong))
                assert (left - right).total() <= 3 >= (right - left).total()


def test_one_place_is_a_word_and_its_article():
    assert differ_in_one_place("a red star above a ball", "an orange star above a ball")
    assert differ_in_one_place("a fir tree above a ball", "an arrow above a ball")
    assert not differ_in_one_place("a scarlet star above an azure ball", "a pink star above blue ball")


def words_of(scene):
    """All that the caption of a scene may be."""
    return {caption(scene, Random(seed)).lower() for seed in range(4000)}


def test_right_captions_are_right_and_wrong_ones_are_not():
    scene = replace(related(GROUP, Random(0)), background="plain")
    right = words_of(scene)
    for kind in CHANGES:
        found = [pair(scene, kind, Random(seed)) for seed in range(20)]
        assert {one.right.lower() for one in found} <= right
        assert not {one.wrong.lower() for one in found} & right


def test_images_are_those_of_pointing(world):
    assert jpeg_of(world, "composition", 3) == jpeg_of(world, "pointing", 3)
    assert scene_of(world, "composition", 5) == scene_of(world, "pointing", 5)
    assert annotations(world, "composition", 3) == annotations(world, "composition", 3)
    assert stream(world, "test", "pairs", 3).random() != stream(world, "test", "pointing", 3).random()


def test_a_set_has_a_pair_of_each_kind_for_each_image(folder):
    revision = read_json(folder / "revision.json")
    assert (revision["samples"], revision["classes"], revision["chance"]) == (IMAGES, 0, 50)
    assert revision["pairs"] == dict.fromkeys(CHANGES, IMAGES)
    assert (folder / "dataset_type.txt").read_text() == "composition\n"
    kinds = [[one.kind for one in pairs] for _, pairs in samples(folder / "test" / "0.tar")]
    assert kinds == [list(CHANGES)] * IMAGES
    assert Metric.parse("composition-swap-attribute", ["fine", "composition"]) == Metric(
        "composition", "swap-attribute"
    )


def test_a_set_of_captions_is_not_probed(folder):
    with pytest.raises(ValueError, match="'composition' has captions, not classes"):
        revision(folder, "composition", "x", probed=True)


def public(folder, text, image=True):
    """A set of one image, as somebody's export of SugarCrepe."""
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "dataset_type.txt").write_text("composition")
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        if image:
            add(tar, "000000.jpg", simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
        add(tar, "000000.txt", text.encode())
    return folder


def test_a_public_set_is_checked(tmp_path):
    good = public(tmp_path / "good", "add-attribute\ta dog\ta red dog\nadd-attribute\ta cat\ta red cat\n")
    assert revision(good, "composition", "x")["pairs"] == {"add-attribute": 2}
    wants = "needs an image and a .txt of one line per pair: kind, right caption and wrong caption"
    faults = {"two": "swap\ta dog", "none": "", "empty": "swap\ta dog\t "}
    for name, text in faults.items():
        with pytest.raises(ValueError, match=wants):
            revision(public(tmp_path / name, text), "composition", "x")
    with pytest.raises(ValueError, match=r"0\.tar: 000000 has no image; each sample needs one"):
        counted([public(tmp_path / "blind", "swap\ta\tb", image=False) / "test" / "0.tar"])
    with pytest.raises(ValueError, match="'a dog' is both the right and the wrong caption of a swap"):
        counted([public(tmp_path / "same", "swap\ta dog\ta dog") / "test" / "0.tar"])


class Oracle:
    """Knows which captions are right."""

    def __init__(self, params, right):
        self.params, self.right, self.known = params, right, []

    def tokenize(self, texts):
        """Each text has a number."""
        self.known += [text for text in dict.fromkeys(texts) if text not in self.known]
        return torch.tensor([[self.known.index(text)] for text in texts])

    def encode_image(self, images):
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2)

    def encode_text(self, ids):
        return torch.tensor([[1.0, 0.0] if self.known[row] in self.right else [0.0, 1.0] for row in ids[:, 0]])


def test_an_oracle_scores_100_and_its_opposite_0(folder, change):
    pairs = [one for _, some in samples(folder / "test" / "0.tar") for one in some]
    right = {one.right for one in pairs} - {one.wrong for one in pairs}
    unclear = Counter(one.kind for one in pairs if one.right not in right)
    assert sum(unclear.values()) < 3  # wrong of one image, right of another
    params = change("clip", SMALL)
    oracle = Oracle(params, right)
    found = outcomes(oracle, oracle.tokenize, folder, "cpu", 16)
    assert found.keys() == CHANGES.keys()
    for kind, values in found.items():
        assert values.dtype == np.float32
        assert values.shape == (IMAGES,)
        assert values.mean() >= 1 - unclear[kind] / IMAGES
    oracle = Oracle(params, {one.wrong for one in pairs} - right)
    wrong = outcomes(oracle, oracle.tokenize, folder, "cpu", 7)
    assert all(values.mean() <= unclear[kind] / IMAGES for kind, values in wrong.items())


def test_a_random_model_scores_chance(folder, change):
    """Of 300 pairs in all, half are right, within 4.5 standard deviations; swaps of a bag of words are ties."""
    torch.manual_seed(0)
    model = build_towers(change("clip", SMALL | {"model": {**SMALL["model"], "tokens": 32}}), 50).eval()
    vocabulary = {}

    def tokenize(texts):
        ids = torch.full((len(texts), 32), -1)
        for row, text in enumerate(texts):
            words = [vocabulary.setdefault(word, len(vocabulary) % 50) for word in text.lower().split()]
            ids[row, : len(words)] = torch.tensor(words)
        return ids

    found = outcomes(model, tokenize, folder, "cpu", 16)
    everything = np.concatenate(list(found.values()))
    assert abs(everything.mean() - 0.5) < 4.5 * 0.5 / len(everything) ** 0.5


def test_captions_that_a_model_cannot_tell_apart_are_a_half():
    image, right, wrong = torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 2.0]]), torch.tensor([[0.5, 0.5]])
    assert preference(image, right, wrong).tolist() == [0.5]
    assert preference(image, torch.tensor([[1.0, 0.9]]), wrong).tolist() == [1.0]
    assert preference(image, torch.tensor([[1.0, 1.1]]), wrong).tolist() == [0.0]


def test_several_pairs_of_an_image_are_one_item(folder, change, tmp_path):
    """Of an image that is there in two samples, too: the mean of both, and that they are two."""
    images = [image for image, _ in samples(folder / "test" / "0.tar")][:2]
    place = public(tmp_path / "many", "x")
    lines = ["swap\tyes\tno", "swap\tno\tmaybe", "add\tyes\tno"]
    oracle = Oracle(change("clip", SMALL), {"yes"})
    for second, expected in ((1, [0.75, 1.0]), (0, [[0.875, 2.0]])):
        with tarfile.open(place / "test" / "0.tar", "w") as tar:
            for number, text in enumerate(("\n".join(lines), lines[0])):
                add(tar, f"{number:06d}.jpg", images[number * second])
                add(tar, f"{number:06d}.txt", text.encode())
        for batch in (1, 16):
            found = outcomes(oracle, oracle.tokenize, place, "cpu", batch)
            assert {kind: values.tolist() for kind, values in found.items()} == {"swap": expected, "add": [1.0]}
    assert Pair("swap", "yes", "no") == next(samples(place / "test" / "0.tar"))[1][0]
