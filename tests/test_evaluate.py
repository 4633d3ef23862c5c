"""Evaluation through clip-benchmark: an oracle scores 100, a random encoder chance; retrieval agrees with a hand-made
matrix and with clip-benchmark's own number; masked inference uses the training's masks and complementary views; tasks
that share features have the numbers that they have on images."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clip_benchmark.datasets.builder import build_wds_dataset
from clip_benchmark.metrics import zeroshot_classification as benchmark

from flip.config.frozen import dump
from flip.evaluate import retrieval, zeroshot
from flip.evaluate.__main__ import evaluate, main
from flip.evaluate.encoders import Cached, Ensemble, Full, Masked
from flip.evaluate.features import compute
from flip.files import read_json, write_atomic
from flip.losses import build_towers
from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import number
from flip.model.text import PAD
from flip.model.weights import save_weights
from flip.synthetic import testsets
from flip.testsets.cache import decoded
from flip.testsets.reader import prompts, read_set, to_square
from tests.colour_sets import IMAGES, write_set
from tests.conftest import COLOURS, SMALL

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
POINTED = 20  # images of things with boxes


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {"classes": write_set(folder / "fine"), "retrieval": write_set(folder / "retrieval", True)}


class Oracle:
    """Sees the mean colour; reads the first word."""

    def encode_image(self, images):
        mean = images.double().mean((1, 2))
        return F.one_hot(torch.cdist(mean, torch.tensor(list(COLOURS.values())).double()).argmin(1), 4).double()

    def encode_text(self, colours):
        return F.one_hot(colours, 4).double()


def first_colour(texts):
    return torch.tensor([next(i for i, c in enumerate(COLOURS) if c in text) for text in texts])


def test_an_oracle_scores_100_and_its_opposite_0(sets):
    loader, (classes, templates) = read_set(sets["classes"], 16, 16), prompts(sets["classes"])
    right = zeroshot.outcomes(Oracle(), first_colour, loader, classes, templates, "cpu")
    assert right.shape == (IMAGES,)
    assert right.dtype == np.float32
    assert right.mean() == 1
    wrong = zeroshot.outcomes(Oracle(), lambda t: (first_colour(t) + 1) % 4, loader, classes, templates, "cpu")
    assert wrong.mean() == 0


def test_retrieval_on_a_hand_made_matrix(sets):
    """Three images, each with two captions, and scores that anyone can rank."""
    vectors = {0: [1.0, 0.0], 1: [0.0, 1.0], 2: [0.6, 0.8]}

    class HandMade:
        def encode_image(self, images):
            return torch.tensor([vectors[int(i)] for i in images[:, 0]])

        def encode_text(self, ids):
            # Captions of image 0 point at images 0 and 1, of 1 at 1 and 2, both of 2 at 2.
            return torch.tensor([vectors[[0, 1, 1, 2, 2, 2][int(i)]] for i in ids])

    loader = [(torch.tensor([[0], [1], [2]]), [["0", "1"], ["2", "3"], ["4", "5"]])]
    found = retrieval.outcomes(HandMade(), lambda t: torch.tensor([int(x) for x in t]), loader, "cpu")
    assert found["image-r1"].tolist() == [[0.5, 2], [0.5, 2], [1, 2]], "the mean of an image's captions, how many"
    assert "image-r5" not in found  # of three images, five cannot be retrieved
    # Image 0: its caption 0 scores 1. Image 1: captions 1 (not its own) and 2 tie. Image 2: captions 3, 4, 5 tie.
    assert found["text-r1"][0] == 1
    assert found["text-r5"].tolist() == [1, 1, 1]


def test_retrieval_equals_clip_benchmark(change):
    """Where no two scores are equal: of those, it takes what torch.topk happens to find."""
    from clip_benchmark.metrics.zeroshot_retrieval import evaluate

    torch.manual_seed(0)
    model = build_towers(change("clip", SMALL), 80).eval()
    images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8)
    captions = [[str(2 * item), str(2 * item + 1)] for item in range(40)]
    loader = [(images[start : start + 16], captions[start : start + 16]) for start in range(0, 40, 16)]
    tokenize = lambda texts: torch.tensor([[int(text)] for text in texts])  # noqa: E731
    found = retrieval.outcomes(Full(model), tokenize, loader, "cpu")
    theirs = evaluate(Full(model), loader, tokenize, "cpu", amp=False, recall_k_list=[1, 5, 10])
    for side in ("image", "text"):
        for k in (1, 5, 10):
            expected = 100 * theirs[f"{side}_retrieval_recall@{k}"]
            assert number(ACCURACY, found[f"{side}-r{k}"]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("texts", [1, 5, 4096])
def test_the_head_is_clip_benchmarks(change, texts):
    """Prompts of one class or of several at a time; some of equal words, some of other lengths."""
    torch.manual_seed(0)
    model = build_towers(change("clip", SMALL), 32).eval()

    def tokenize(prompts):
        ids = torch.full((len(prompts), 8), PAD)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt[:8])] = torch.tensor([ord(letter) % 32 for letter in prompt[:8]])
        return ids

    classes, templates = ["red", "a dog", "red", "x", "cats"], ["{c}", "a {c}", "{c}"]
    expected = benchmark.zero_shot_classifier(Full(model), tokenize, classes, templates, "cpu", amp=False)
    found = zeroshot.head(Full(model), tokenize, classes, templates, "cpu", texts)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-6


def test_masked_inference_is_training_masking_and_the_ensemble_covers_all(change):
    model = build_towers(change("flip-75", SMALL), 4)
    images = torch.randint(0, 256, (6, 16, 16, 3)).byte()
    masked = Masked(model, seed=3)
    features = torch.cat([masked.encode_image(part) for part in images.split(4)])
    assert torch.allclose(features, Masked(model, seed=3).encode_image(images), atol=1e-6)
    views = Ensemble(model, seed=3).views(images)
    assert len(views) == 4
    expected = sum(F.normalize(model.encode_image(images, view), dim=-1) for view in views) / 4
    assert torch.allclose(Ensemble(model, seed=3).encode_image(images), expected)


def test_images_are_cut_to_the_centre():
    from PIL import Image

    array = np.zeros((20, 40, 3), np.uint8)
    array[:, 10:30] = 255
    assert (to_square(Image.fromarray(array), 16) == 255).all()
    assert to_square(Image.fromarray(array).convert("P"), 16).shape == (16, 16, 3)


def run(params, data, folder):
    """Evaluates random weights by the command; gives metrics.json and outcomes.npz."""
    write_atomic(folder / "params.yaml", dump(params))
    torch.manual_seed(0)
    vocabulary = read_json(data / "tokenizer.json")["vocabulary"]
    save_weights(folder / "w.safetensors", build_towers(params, vocabulary).state_dict())
    words = ["--params", folder / "params.yaml", "--data", data, "--weights", folder / "w.safetensors", "--seed", 0]
    main([str(word) for word in [*words, "--out", folder / "out"]])
    return read_json(folder / "out" / "metrics.json"), np.load(folder / "out" / "outcomes.npz")


@pytest.fixture(scope="module")
def data(change, small_data, tmp_path_factory):
    """Sets with classes, one of them with a training split, one with captions, and one with boxes."""
    folder = tmp_path_factory.mktemp("evaluated") / "data"
    shutil.copytree(small_data, folder)
    write_set(folder / "tests" / "fine", train=60)
    write_set(folder / "tests" / "coarse")
    write_set(folder / "tests" / "retrieval", retrieval=True)
    few = change("clip", {"world": {"tests": {"pointing": POINTED}}})
    testsets.make(few, "pointing", folder / "tests" / "pointing")
    return folder


@pytest.fixture
def parameters(change, data):
    """parameters(variant, probe): of a small model and those four sets."""

    def made(variant, probe):
        params = change(variant, SMALL | {"evaluate": {"batch": 16, "probe": probe}})
        sets = dict.fromkeys(["fine", "coarse", "retrieval", "pointing"], "world")
        return params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"sets": sets})})

    return made


def test_the_command_writes_metrics_with_their_evidence(parameters, data, tmp_path):
    facts, outcomes = run(parameters("flip-50", ["fine"]), data, tmp_path)
    wanted = {"fine", "coarse", "fine-masked", "fine-ensemble", "fine-probe", "retrieval-image-r1"}
    assert set(facts["metrics"]) == set(outcomes) >= wanted
    for name, value in facts["metrics"].items():
        assert value == number(ACCURACY, outcomes[name])
    assert facts["sets"]["fine"]["samples"] == len(outcomes["fine"]) == len(outcomes["fine-probe"]) == IMAGES
    assert facts["sets"]["pointing"]["samples"] == len(outcomes["pointing"]) == POINTED
    assert facts["manifest"] == json.loads((data / "manifest.json").read_text())["id"]
    assert facts["skipped"] == {}
    assert facts["sheets"].keys() == {"relevance-pointing", "matches-retrieval"}
    assert (tmp_path / "out" / "sheets" / "relevance-pointing.webp").stat().st_size > 1000


def test_a_set_without_a_training_split_is_left_out_with_its_reason(parameters, data, tmp_path):
    facts, _ = run(parameters("clip", ["fine", "coarse"]), data, tmp_path)
    assert "fine-probe" in facts["metrics"]
    assert "coarse-probe" not in facts["metrics"]
    assert facts["skipped"] == {"coarse-probe": "no training split"}


def test_a_model_without_a_text_tower_is_probed_and_that_is_all(parameters, data, tmp_path):
    facts, outcomes = run(parameters("mae", ["fine"]), data, tmp_path)
    assert set(facts["metrics"]) == set(outcomes) == {"fine-probe"}
    assert facts["sheets"].keys() == {"reconstruction"}


def test_the_tower_sees_each_image_once(parameters, data):
    seen = []
    model = build_towers(parameters("clip", ["fine"]), 4).eval()
    model.vision.transformer.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    evaluate(model, lambda texts: torch.zeros(len(texts), 1).long(), data, 0, "cpu")
    assert sum(seen) == 3 * IMAGES + 60 + POINTED


@pytest.mark.parametrize("variant", ["clip", "siglip"])
def test_tasks_on_features_equal_those_on_images_to_the_last_bit(change, sets, variant):
    torch.manual_seed(0)
    model = build_towers(change(variant, SMALL), 4).eval()
    tokenize = lambda texts: first_colour(texts)[:, None].expand(-1, 8)  # noqa: E731
    loader, (classes, templates) = read_set(sets["classes"], 16, 16), prompts(sets["classes"])
    weights = benchmark.zero_shot_classifier(Full(model), tokenize, classes, templates, "cpu", amp=False)
    expected = benchmark.run_classification(Full(model), weights, loader, "cpu", amp=False)
    batches = compute(model, loader, "cpu").batches()
    found = benchmark.run_classification(Cached(model), weights, batches, "cpu", amp=False)
    captioned = read_set(sets["retrieval"], 16, 16)
    expected += retrieval.embed(Full(model), tokenize, captioned, "cpu")
    found += retrieval.embed(Cached(model), tokenize, compute(model, captioned, "cpu").batches(), "cpu")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.filterwarnings("ignore:.*shardshuffle")
@pytest.mark.parametrize("kind", ["classes", "retrieval"])
def test_prompts_are_those_that_clip_benchmark_reads(sets, kind):
    dataset = build_wds_dataset(kind, None, "test", str(sets[kind]))
    assert prompts(sets[kind]) == (dataset.classes, dataset.templates)


def test_a_folder_without_the_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no test/nshards.txt; evaluate.sets wants 'world' or a folder"):
        read_set(tmp_path, 16, 16)


@pytest.mark.parametrize("kind", ["classes", "retrieval"])
def test_squares_are_what_the_loader_gives_and_images_are_decoded_once(sets, tmp_path, kind):
    loader = read_set(sets[kind], 16, 7)
    revision = {"samples": IMAGES, "sha256": "a"}
    for attempt in (loader, None):  # the second time, nothing is read of the set
        found, expected = decoded(attempt, tmp_path, revision, 16, 7), list(read_set(sets[kind], 16, 7))
        assert len(found) == len(expected)
        for (images, targets), (theirs, labels) in zip(found, expected, strict=True):
            assert torch.equal(images, theirs)
            assert type(targets) is type(labels)
            assert list(targets) == list(labels)
    for sha256, side in (("b", 16), ("a", 8)):  # another set or size has files of its own
        decoded(read_set(sets[kind], side, 7), tmp_path, {"samples": IMAGES, "sha256": sha256}, side, 7)
    assert len(list(tmp_path.glob("*.bin"))) == 3


def test_squares_of_other_images_than_were_checked_are_refused(sets, tmp_path):
    """An image that was added to a set after its revision has not been compared with the training data."""
    with pytest.raises(ValueError, match=r"fine: 40 samples, but its revision.json says 39; make that again"):
        decoded(read_set(sets["classes"], 16, 7), tmp_path, {"samples": IMAGES - 1, "sha256": "a"}, 16, 7)
    assert not list(tmp_path.glob("*.json"))


def test_squares_are_written_again_after_a_kill_and_never_beyond_their_limit(sets, tmp_path, monkeypatch):
    loader, revision = read_set(sets["classes"], 16, 7), {"samples": IMAGES, "sha256": "a"}
    decoded(loader, tmp_path, revision, 16, 7)
    next(tmp_path.glob("*.json")).unlink()  # what a kill between the two files leaves
    next(tmp_path.glob("*.bin")).write_bytes(b"half")
    assert sum(len(targets) for _, targets in decoded(loader, tmp_path, revision, 16, 7)) == IMAGES
    monkeypatch.setattr("flip.testsets.cache.LARGEST", IMAGES * 16 * 16 * 3 - 1)
    assert decoded(loader, tmp_path, revision, 16, 7) is loader
