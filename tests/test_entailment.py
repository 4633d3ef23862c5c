"""Statements about images are right or contradict both image and caption, and probes of what a model makes of them
are scored like any."""

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from flip.config.kinds.entailment import texts
from flip.evaluate.kinds import entailment as task
from flip.files import read_json
from flip.formats.layout import tars
from flip.losses import build_towers
from flip.synthetic import testsets
from flip.synthetic.entailment import CHANGES, exchanged, repainted, reshaped, statement, texts_of, turned
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.scenes import Scene, Thing, stream
from flip.synthetic.shifts import annotations, jpeg_of, scene_of
from flip.testsets.reader import read_set
from tests.conftest import SMALL

# clip-benchmark leaves the order of shards open and files unclosed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", r"ignore:WebDataset:UserWarning"
)
STAR = Thing("star", "red", "usual", 0.5, 0.0, 0.0, 0.0)
BALL = replace(STAR, shape="ball", colour="blue", x=0.5)
SCENE = Scene((STAR, BALL), "left of", "grass", 96, 96, "look")


@pytest.fixture(scope="module")
def world(change):
    return change("clip", {"world": {"tests": {"entailment": 40}, "probe": {"entailment": 64}}}).world


def test_each_change_is_one_that_words_can_tell():
    random = Random(0)
    changed = [change(SCENE, random) for change in CHANGES]
    assert all(one != SCENE for one in changed)
    assert [thing.colour for thing in exchanged(SCENE, random).things] == ["blue", "red"]
    assert turned(SCENE, random).relation == "right of"
    assert repainted(SCENE, random).main.colour not in {"red", "blue"}
    assert reshaped(SCENE, random).main.shape not in {"star", "ball"}


def test_what_would_change_nothing_changes_nothing():
    twins = replace(SCENE, things=(STAR, replace(STAR, colour="blue")))
    assert exchanged(twins, Random(0)) == twins  # a red star and a blue star, either way
    lone = replace(SCENE, things=(STAR,), relation=None)
    assert turned(lone, Random(0)) == exchanged(lone, Random(0)) == lone
    assert texts_of(lone, lone, Random(0)) is None


def test_all_that_are_alike_change_together():
    alike = replace(SCENE, things=(STAR, replace(STAR, x=0.4)), relation=None)
    assert {thing.colour for thing in repainted(alike, Random(0)).things} != {"red"}
    assert len({thing.shape for thing in reshaped(alike, Random(1)).things}) == 1


def test_a_wrong_statement_tells_something_that_the_image_does_not_show(world):
    """Lone things on a background: of a wrong statement, colour, shape or background is not the image's."""
    found = Counter()
    for index in range(300):
        scene = scene_of(world, "entailment", index)
        if len(scene.things) > 1:
            continue
        _, claim, holds = statement(scene, stream(world, "test", "statement", index))
        claim, shown = claim.lower(), scene.main
        colours = {known for known, words in ENGLISH.colours.items() if any(f" {w} " in f" {claim} " for w in words)}
        places = {known for known, words in ENGLISH.backgrounds.items() if any(w in claim for w in words)}
        shapes = {known for known, words in ENGLISH.shapes.items() if any(f" {w} " in f" {claim} " for w in words)}
        right = colours <= {shown.colour} and places <= {scene.background} and shown.shape in shapes
        found[holds, right] += 1
    assert found[1, False] == found[0, True] == 0, found
    assert 0.4 < found[1, True] / found.total() < 0.6


def test_images_are_those_of_the_fine_list(world):
    assert jpeg_of(world, "entailment", 3) == jpeg_of(world, "fine", 3)
    assert jpeg_of(world, "entailment", 3, "train") == jpeg_of(world, "fine", 3, "train")
    one = [annotations(world, "entailment", index, split="train") for index in range(4)]
    assert one == [annotations(world, "entailment", index, split="train") for index in range(4)]
    assert one != [annotations(world, "entailment", index) for index in range(4)]


@pytest.fixture(scope="module")
def folder(change, tmp_path_factory):
    place = tmp_path_factory.mktemp("entailment")
    params = change("clip", {"world": {"tests": {"entailment": 40}, "probe": {"entailment": 64}}})
    testsets.make(params, "entailment", place)
    return place


def test_the_set_has_two_splits_and_two_lines_an_image(folder):
    revision = read_json(folder / "revision.json")
    assert (revision["samples"], revision["classes"], revision["train"]["samples"]) == (40, 2, 64)
    lines = texts(tars(folder, "train"))
    assert len(lines) == 64
    assert all(len(two) == 2 for two in lines)
    assert (folder / "dataset_type.txt").read_text() == "entailment\n"


def test_an_image_without_a_statement_is_named(folder, tmp_path):
    import tarfile

    from flip.formats.contents import add

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        add(tar, "000000.jpg", b"1")
        add(tar, "000000.txt", b"a red star")
    with pytest.raises(ValueError, match=r"000000.txt has 1 lines; it needs two, a caption of the image and"):
        texts([tmp_path / "0.tar"])


class Oracle:
    """Knows the answer: the feature of a statement is its image's, or its caption's, if it is right."""

    def __init__(self, lines, labels, params):
        self.text, self.params, self.known = self.of_words, params, sorted({text for two in lines for text in two})
        self.right = {claim: label for (_, claim), label in zip(lines, labels, strict=True)}

    def tokenize(self, texts):
        return torch.tensor([[self.known.index(text)] for text in texts])

    def of_words(self, ids):
        sign = torch.tensor([1.0 if self.right.get(self.known[row], 1) else -1.0 for row in ids[:, 0]])
        return sign[:, None] * torch.ones(len(ids), 4)

    def encode_image(self, images):
        return torch.ones(len(images), 4)

    encode_text = of_words


def loaders(folder):
    return {split: list(read_set(folder, 16, 16, split)) for split in ("train", "test")}


def test_an_oracle_scores_100(folder, change):
    given = loaders(folder)
    lines = [two for split in given for two in texts(tars(folder, split))]
    labels = [int(label) for split in given.values() for _, some in split for label in some]
    oracle = Oracle(lines, labels, change("clip", SMALL))
    found = task.outcomes(oracle, oracle.tokenize, folder, given, "cpu")
    assert found.keys() == {"image", "text"}
    assert all(values.mean() == 1 and values.dtype == np.float32 and len(values) == 40 for values in found.values())


@pytest.mark.parametrize(
    ("variant", "tasks"),
    [("clip", {"image", "text"}), ("flava", {"image", "text"}), ("flava-text", {"text"}), ("flava-image", set())],
)
def test_a_model_has_the_tasks_that_its_towers_allow(change, folder, variant, tasks):
    torch.manual_seed(0)
    model = build_towers(change(variant, SMALL), 50).eval()
    tokenize = lambda words: torch.randint(0, 50, (len(words), 8), generator=torch.Generator().manual_seed(0))  # noqa: E731
    assert task.outcomes(model, tokenize, folder, loaders(folder), "cpu").keys() == tasks


def test_a_pair_is_what_differs_and_what_agrees():
    u, v = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    assert torch.allclose(task.pair(u, v), torch.tensor([[0.6, 0.2, 0.0, 0.8]]))
