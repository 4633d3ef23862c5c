"""Evaluation through clip-benchmark: an oracle scores 100, a random encoder chance; retrieval agrees with a hand-made
matrix and with clip-benchmark's own number; masked inference uses the training's masks and complementary views."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flip.data import testsets
from flip.evaluate import retrieval, zeroshot
from flip.evaluate.__main__ import main
from flip.evaluate.encoders import Ensemble, Full, Masked
from flip.evaluate.sets import read_set, to_square
from flip.files import read_json, write_atomic, write_json
from flip.model.two_towers import TwoTowers
from flip.model.weights import save_weights
from flip.params import dump
from tests.conftest import COLOURS, SMALL

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
PICTURES = 40


def write_set(folder, retrieval=False):
    """A test set of plain colours in clip-benchmark's layout."""
    import simplejpeg
    import webdataset

    (folder / "test").mkdir(parents=True)
    with webdataset.TarWriter(str(folder / "test" / "0.tar"), mtime=0) as tar:
        for item in range(PICTURES):
            colour = list(COLOURS)[item % 4]
            picture = np.tile(np.array(COLOURS[colour], np.uint8), (20, 24, 1))
            label = {"txt": f"{colour} one {item}\n{colour} two {item}"} if retrieval else {"cls": item % 4}
            tar.write({"__key__": f"{item:06d}", "jpg": simplejpeg.encode_jpeg(picture)} | label)
    (folder / "test" / "nshards.txt").write_text("1")
    if retrieval:
        (folder / "dataset_type.txt").write_text("retrieval")
    else:
        (folder / "classnames.txt").write_text("\n".join(COLOURS))
        (folder / "zeroshot_classification_templates.txt").write_text("{c}\na {c} picture")
    write_json(folder / "revision.json", {"samples": PICTURES, "sha256": "0" * 64})
    return folder


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
    loader, classes, templates = read_set(sets["classes"], 16, 16)
    right = zeroshot.outcomes(Oracle(), first_colour, loader, classes, templates, "cpu")
    assert right.shape == (PICTURES,)
    assert right.dtype == np.float32
    assert right.mean() == 1
    wrong = zeroshot.outcomes(Oracle(), lambda t: (first_colour(t) + 1) % 4, loader, classes, templates, "cpu")
    assert wrong.mean() == 0


def test_retrieval_on_a_hand_made_matrix(sets):
    """Three pictures, each with two captions, and scores that anyone can rank."""
    vectors = {0: [1.0, 0.0], 1: [0.0, 1.0], 2: [0.6, 0.8]}

    class HandMade:
        def encode_image(self, images):
            return torch.tensor([vectors[int(i)] for i in images[:, 0]])

        def encode_text(self, ids):
            # Captions of picture 0 point at pictures 0 and 1, of 1 at 1 and 2, both of 2 at 2.
            return torch.tensor([vectors[[0, 1, 1, 2, 2, 2][int(i)]] for i in ids])

    loader = [(torch.tensor([[0], [1], [2]]), [["0", "1"], ["2", "3"], ["4", "5"]])]
    found = retrieval.outcomes(HandMade(), lambda t: torch.tensor([int(x) for x in t]), loader, "cpu", 2)
    assert found["image-r1"].tolist() == [1, 0, 1, 0, 1, 1]
    assert "image-r5" not in found  # of three pictures, five cannot be retrieved
    # Picture 0: its caption 0 scores 1. Picture 1: captions 1 (not its own) and 2 tie. Picture 2: captions 3, 4, 5 tie.
    assert found["text-r1"][0] == 1
    assert found["text-r5"].tolist() == [1, 1, 1]


def test_retrieval_equals_clip_benchmark(sets, change, small_data):
    from clip_benchmark.metrics.zeroshot_retrieval import evaluate

    torch.manual_seed(0)
    model = TwoTowers(change("clip", SMALL), 4)
    loader, _, _ = read_set(sets["retrieval"], 16, 16)
    tokenize = lambda texts: first_colour(texts)[:, None]  # noqa: E731
    found = retrieval.outcomes(Full(model), tokenize, loader, "cpu", 16)
    theirs = evaluate(Full(model), loader, tokenize, "cpu", amp=False, recall_k_list=[1, 5, 10])
    for side in ("image", "text"):
        for k in (1, 5, 10):
            assert found[f"{side}-r{k}"].mean() == pytest.approx(theirs[f"{side}_retrieval_recall@{k}"], abs=1e-6)


def test_masked_inference_is_training_masking_and_the_ensemble_covers_all(change):
    model = TwoTowers(change("flip-75", SMALL), 4)
    images = torch.randint(0, 256, (6, 16, 16, 3)).byte()
    masked = Masked(model, seed=3)
    features = torch.cat([masked.encode_image(part) for part in images.split(4)])
    assert torch.allclose(features, Masked(model, seed=3).encode_image(images), atol=1e-6)
    views = Ensemble(model, seed=3).views(6, "cpu")
    assert len(views) == 4
    expected = sum(F.normalize(model.encode_image(images, view), dim=-1) for view in views) / 4
    assert torch.allclose(Ensemble(model, seed=3).encode_image(images), expected)


def test_pictures_are_cut_to_the_centre():
    from PIL import Image

    array = np.zeros((20, 40, 3), np.uint8)
    array[:, 10:30] = 255
    assert (to_square(Image.fromarray(array), 16) == 255).all()
    assert to_square(Image.fromarray(array).convert("P"), 16).shape == (16, 16, 3)


def test_the_command_writes_metrics_with_their_evidence(change, small_data, sets, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    for name in ("fine", "retrieval"):
        shutil.copytree(sets["classes" if name == "fine" else name], data / "tests" / name)
    delta = SMALL | {"evaluate": {"batch": 16}, "world": {"tests": {"pointing": 20}}}
    testsets.make(change("flip-50", delta), "pointing", data / "tests" / "pointing")
    params = change("flip-50", delta)
    params = params.model_copy(
        update={
            "evaluate": params.evaluate.model_copy(
                update={"sets": dict.fromkeys(["fine", "retrieval", "pointing"], "world")}
            )
        }
    )
    write_atomic(tmp_path / "params.yaml", dump(params))
    torch.manual_seed(0)
    vocabulary = read_json(data / "tokenizer.json")["vocabulary"]
    save_weights(tmp_path / "w.safetensors", TwoTowers(params, vocabulary).state_dict())
    words = ["--params", tmp_path / "params.yaml", "--data", data, "--weights", tmp_path / "w.safetensors", "--seed", 0]
    main([str(word) for word in [*words, "--out", tmp_path / "out"]])
    facts = read_json(tmp_path / "out" / "metrics.json")
    outcomes = np.load(tmp_path / "out" / "outcomes.npz")
    assert set(facts["metrics"]) == set(outcomes) >= {"fine", "fine-masked", "fine-ensemble", "retrieval-image-r1"}
    for name, value in facts["metrics"].items():
        assert value == pytest.approx(100 * outcomes[name].mean(), abs=1e-3)
    assert facts["sets"]["pointing"]["samples"] == len(outcomes["pointing"]) == 20
    assert facts["sets"]["fine"]["samples"] == len(outcomes["fine"]) == PICTURES
    assert facts["manifest"] == json.loads((data / "manifest.json").read_text())["id"]


def test_a_folder_without_the_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no test/nshards.txt; evaluate.sets wants 'world' or a folder"):
        read_set(tmp_path, 16, 16)
