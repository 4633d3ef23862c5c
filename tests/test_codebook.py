"""The image tokenizer learns pictures by its codes, uses most of them, gives one per patch in the patches' order, and
the same bits for the same inputs; training reads it, and says so where it is missing."""

import numpy as np
import pytest
import torch
from PIL import Image

from flip.codebook import Training, build_loader, main, measure, side_by_side
from flip.files import read_json
from flip.model.codebook import Codebook, load_codebook
from flip.model.vision import patchify
from flip.params import freeze
from flip.sheet import GAP, SIDE
from tests.conftest import SMALL


@pytest.fixture
def params(change):
    return change("flava", SMALL)


def images(params, data, count=32):
    return build_loader(params, data, read_json(data / "manifest.json")).batch(0, count)["images"]


def test_it_learns_and_uses_its_codes(params, small_data):
    pictures, training = images(params, small_data), Training(params, "cpu")
    before = measure(training.model, pictures)["error"]
    training.steps = 120
    for _ in range(training.steps):
        training.step(pictures)
    after = measure(training.model, pictures)
    assert after["error"] < 0.1 < before
    assert after["used"] > 0.7
    assert 4 < after["perplexity"] <= after["codes"] == 16


def test_codes_are_the_nearest_entries_in_the_order_of_the_patches(params):
    """A code depends on the patches around it alone: a changed corner changes no code far from it."""
    torch.manual_seed(0)
    codebook = Codebook(params)
    picture = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    encoded = codebook.encode(codebook.targets(picture))
    distances = torch.cdist(encoded, codebook.entries.expand(2, -1, -1))
    assert torch.equal(codebook(picture), distances.argmin(dim=-1))
    codebook.before = torch.nn.Sequential()  # no view of neighbours
    before = codebook(picture)
    picture[:, :4, 12:] = 255 - picture[:, :4, 12:]
    changed = codebook.encode(codebook.targets(picture)) != codebook.encode(codebook.targets(picture.flip(0))).flip(0)
    assert not changed.any()
    same = (codebook(picture) == before).all(dim=0)
    assert same[[i for i in range(16) if i != 3]].all()


def test_pictures_undo_the_patches(params, monkeypatch):
    codebook = Codebook(params)
    picture = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    monkeypatch.setattr(codebook, "decode", lambda entries: codebook.targets(picture))
    assert torch.equal(codebook.pictures(codebook(picture)), picture)
    assert patchify(picture, 4).shape == (2, 16, 48)


def run(params, data, folder):
    freeze(params, folder / "params.yaml")
    main(["--params", str(folder / "params.yaml"), "--data", str(data), "--out", str(folder / "out")])
    return folder / "out"


def test_the_command_writes_the_same_bits_again(params, small_data, tmp_path):
    first, second = (run(params, small_data, tmp_path / name) for name in ("a", "b"))
    for name in ("weights.safetensors", "metrics.json", "pictures.webp"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert read_json(first / "metrics.json").keys() == {"error", "used", "perplexity", "codes", "use"}
    with Image.open(first / "pictures.webp") as shown:
        assert shown.format == "WEBP"


def test_use_is_that_of_the_codes_from_the_most_to_the_least_used(params, small_data):
    codebook, pictures = Training(params, "cpu").model, images(params, small_data)
    counts = codebook(pictures).flatten().bincount(minlength=16).sort(descending=True).values
    facts = measure(codebook, pictures)
    assert facts["use"] == pytest.approx((counts / counts.sum()).tolist(), abs=1e-5)
    assert facts["used"] == (counts > 0).double().mean().item()


def test_the_shown_originals_are_the_pictures(params, small_data):
    pictures = images(params, small_data, 3)
    codebook = Codebook(params)
    found, shown = side_by_side(codebook, pictures), codebook.pictures(codebook(pictures))
    for number in range(3):
        left = number * (SIDE + GAP)
        for row, picture in enumerate((pictures[number], shown[number])):
            place = found[row * (SIDE + GAP) :, left:][:SIDE, :SIDE]
            assert np.array_equal(place[::6, ::6], picture.numpy())


def test_only_losses_that_read_codes_ask_for_it(change, params, tmp_path):
    assert load_codebook(change("clip", SMALL), tmp_path, "cpu") is None
    assert load_codebook(change("flava", {**SMALL, "flava": {"mim": 0.0, "mmm_image": 0.0}}), tmp_path, "cpu") is None
    with pytest.raises(ValueError, match=r"codebook/weights.safetensors: not here, though .* run flip.codebook first"):
        load_codebook(params, tmp_path, "cpu")


def test_codes_are_read_in_training_and_get_no_gradient(params, small_data):
    codebook = load_codebook(params, small_data, "cpu")
    assert not any(parameter.requires_grad for parameter in codebook.parameters())
    codes = codebook(images(params, small_data, 4))
    assert codes.shape == (4, 16)
    assert codes.dtype == torch.int64
