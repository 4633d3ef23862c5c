"""Equal inputs are treated equally: repeated captions, repeated images and classes of one name give the same results
for every size and order of batches and number of threads, though features that are computed apart differ in the last
bits."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flip.config.resolve import read_project
from flip.data.batch_types import PAD
from flip.evaluate import retrieval, zeroshot
from flip.evaluate.distinct import TEXTS, Firsts, encode_texts, exact, firsts
from flip.evaluate.encoders import Full
from flip.evaluate.features import compute
from flip.evaluate.kinds.composition import preference
from flip.losses import build_towers

IMAGES, WORDS = 60, 6
COLOURS = ("red", "green", "blue", "white", "black")


def tokenize(texts):
    """Case is lost, as by most tokenizers, and so is what comes after the last slot."""
    ids = torch.full((len(texts), WORDS), PAD)
    for row, text in enumerate(texts):
        words = text.lower().split()[:WORDS]
        ids[row, : len(words)] = torch.tensor([1 + sum(map(ord, word)) % 30 for word in words])
    return ids


def build():
    """A model of random weights, wide enough for products whose last bits differ with their place."""
    torch.manual_seed(0)
    return build_towers(read_project("params.yaml", "tiny").resolve("clip"), 32).eval()


def captioned(side):
    """Images, some of them twice, and one to three captions of few words each, most of them of several images."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (IMAGES, side, side, 3), np.uint8))
    images[IMAGES // 2 : IMAGES // 2 + 10] = images[:10]
    captions = [
        [" ".join(rng.choice(COLOURS, rng.integers(1, 4))) for _ in range(rng.integers(1, 4))] for _ in range(IMAGES)
    ]
    captions[-1] = [captions[0][0].upper()]
    return images, captions


def batches(images, captions, size):
    return [(images[start : start + size], captions[start : start + size]) for start in range(0, len(images), size)]


def results(size):
    model = build()
    found = retrieval.outcomes(Full(model), tokenize, batches(*captioned(model.params.model.image), size), "cpu")
    return {name: np.asarray(values).tolist() for name, values in found.items()}


@pytest.fixture(scope="module")
def expected():
    return results(IMAGES)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 59])
def test_batches_of_any_size_give_the_same(expected, size):
    assert results(size) == expected


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(expected, threads):
    """In a process of its own, as the tests' has one thread."""
    words = f"import torch; torch.set_num_threads({threads})\nfrom tests.test_distinct import results\n"
    words += "import json; print(json.dumps(results(16)))"
    said = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout.splitlines()[-1]) == expected


def test_batches_in_any_order_give_texts_the_same_bits():
    model = build()
    images, captions = captioned(model.params.model.image)
    found = {}
    for order in (range(IMAGES), reversed(range(IMAGES)), torch.randperm(IMAGES).tolist()):
        order = list(order)
        loader = batches(images[order], [captions[one] for one in order], 9)
        features = iter(retrieval.embed(Full(model), tokenize, loader, "cpu")[1])
        for text in (text for one in order for text in captions[one]):
            key = tuple(tokenize([text])[0].tolist())
            assert torch.equal(found.setdefault(key, feature := next(features)), feature)
    assert len(found) < sum(map(len, captions)) / 2


def test_each_text_is_encoded_once():
    encoded = []

    def encode(ids):
        encoded.extend(map(tuple, ids.tolist()))
        return ids.float()

    ids = torch.randint(0, 30, (3 * TEXTS, 2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(encode_texts(encode, ids, "cpu"), ids.float())
    assert len(encoded) == len(set(encoded)) == len(ids.unique(dim=0))


def test_ties_of_equal_captions_and_images_go_to_the_earlier_one():
    """All captions are one text, all images one image: image i and its caption come in place i + 1."""
    model = build()
    images = captioned(model.params.model.image)[0][:1].expand(12, -1, -1, -1)
    features = retrieval.embed(Full(model), tokenize, batches(images, [["a Red one"], ["a red one"]] * 6, 5), "cpu")
    assert [one.tolist() for one in retrieval.ranks(*features, rows=5)] == [list(range(1, 13))] * 2


@pytest.mark.parametrize("rows", [3, 64, 256])
@pytest.mark.parametrize("width", [96, 512])
def test_equal_features_have_equal_scores_wherever_they_stand(rows, width):
    """Of 300 images, 5 features in turns: each caption finds the first image of its feature."""
    features = F.normalize(torch.randn(5, width, generator=torch.Generator().manual_seed(0)), dim=-1)
    owners = torch.arange(300)
    of_texts, of_images = retrieval.ranks(features[owners % 5], features[owners % 5], owners, rows)
    assert of_texts.tolist() == of_images.tolist() == [1 + number // 5 for number in range(300)]


def test_scores_have_no_rounding():
    """Any order of summation gives the same bits, and float32's scores but for its own rounding."""
    a, b = (F.normalize(torch.randn(400, 512, generator=torch.Generator().manual_seed(n)), dim=-1) for n in (0, 1))
    scores = exact(a) @ exact(b).T
    order = torch.randperm(512, generator=torch.Generator().manual_seed(2))
    assert torch.equal(scores, exact(a)[:, order] @ exact(b)[:, order].T)
    assert torch.equal(scores, torch.stack([(row * exact(b)).sum(dim=1) for row in exact(a)]))
    assert (scores - (a.double() @ b.double().T)).abs().max() < 1e-7


def test_images_that_are_there_twice_have_the_same_features():
    model = build()
    images, captions = captioned(model.params.model.image)
    for size in (1, 7, 16):
        pooled = compute(model, batches(images, captions, size), "cpu").pooled
        assert torch.equal(pooled[IMAGES // 2 : IMAGES // 2 + 10], pooled[:10])
        assert len(pooled.unique(dim=0)) == IMAGES - 10


@pytest.mark.parametrize("texts", [2, 7, 4096])
def test_classes_of_one_name_have_one_vector(texts):
    """Encoded together or apart; of equal scores the first class is said."""
    model, templates = build(), ["{c}", "a {c} thing"]
    classes = ["red", "green", "RED", "blue", "green white", "white", "Red"]
    head = zeroshot.head(Full(model), tokenize, classes, templates, "cpu", texts)
    assert firsts(head.T).tolist() == [0, 1, 0, 3, 4, 5, 0]

    class Eyes(Full):
        def encode_image(self, images):
            return head.T[images]

    found = zeroshot.outcomes(Eyes(model), tokenize, [(torch.arange(7), torch.arange(7))], classes, templates, "cpu")
    assert found.tolist() == [1, 1, 0, 1, 1, 1, 0]


def test_a_wrong_caption_that_reads_like_the_right_one_is_a_tie():
    """The model sees no difference behind its last slot, or of case, so guessing is all that it can do."""
    model = build()
    rights = [f"{colour} {other} one two three four five" for colour in COLOURS for other in COLOURS]
    wrongs = [text.title().replace("Five", "Six") for text in rights]
    features = encode_texts(model.encode_text, tokenize(rights + wrongs), "cpu")
    image = torch.randn(len(rights), features.shape[1], generator=torch.Generator().manual_seed(0))
    assert (preference(image, *features.chunk(2)) == 0.5).all()


def test_firsts_are_those_of_a_plain_search():
    rows = torch.randint(0, 3, (50, 2), generator=torch.Generator().manual_seed(0))
    known = rows.tolist()
    assert firsts(rows).tolist() == [known.index(row) for row in known]
    found = Firsts()
    for some in rows.split(7):
        found.add(some)
    assert torch.equal(found.places, firsts(rows))
    assert Firsts().places.tolist() == []
