"""The image tokenizer learns images by its codes, uses most of them, gives one per patch in the patches' order, and
the same bits for the same inputs; training reads it, and says so where it is missing."""

import numpy as np
import pytest
import torch
from PIL import Image

from flip.config.frozen import dump
from flip.data.contact_sheet import GAP, SIDE
from flip.files import read_json, write_atomic
from flip.model.codebook import load_codebook
from flip.model.dalle import DallE
from flip.model.image_tokenizer import VQTokenizer
from flip.model.vision import patchify
from flip.model.weights import save_weights
from flip.train.image_tokenizer import TokenizerTraining, build_loader, load_dalle, main, measure, side_by_side
from tests.conftest import SMALL


@pytest.fixture
def params(change):
    return change("flava", SMALL)


def training_images(params, data, count=32):
    return build_loader(params, data, read_json(data / "manifest.json")).batch(0, count)["images"]


def test_it_learns_and_uses_its_codes(params, small_data):
    images, training = training_images(params, small_data), TokenizerTraining(params, "cpu")
    before = measure(training.model, images)["error"]
    training.steps = 120
    for _ in range(training.steps):
        training.step(images)
    after = measure(training.model, images)
    assert after["error"] < 0.1 < before
    assert after["used"] > 0.7
    assert 4 < after["perplexity"] <= after["codes"] == 16


def test_codes_are_the_nearest_entries_in_the_order_of_the_patches(params):
    """A code depends on the patches around it alone: a changed corner changes no code far from it."""
    torch.manual_seed(0)
    codebook = VQTokenizer(params)
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    encoded = codebook.encode(codebook.targets(image))
    distances = torch.cdist(encoded, codebook.entries.expand(2, -1, -1))
    assert torch.equal(codebook(image), distances.argmin(dim=-1))
    codebook.before = torch.nn.Sequential()  # no view of neighbours
    before = codebook(image)
    image[:, :4, 12:] = 255 - image[:, :4, 12:]
    changed = codebook.encode(codebook.targets(image)) != codebook.encode(codebook.targets(image.flip(0))).flip(0)
    assert not changed.any()
    same = (codebook(image) == before).all(dim=0)
    assert same[[i for i in range(16) if i != 3]].all()


def test_images_undo_the_patches(params, monkeypatch):
    codebook = VQTokenizer(params)
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    monkeypatch.setattr(codebook, "decode", lambda entries: codebook.targets(image))
    assert torch.equal(codebook.decode_images(codebook(image)), image)
    assert patchify(image, 4).shape == (2, 16, 48)


def run(params, data, folder):
    write_atomic(folder / "params.yaml", dump(params))
    main(["--params", str(folder / "params.yaml"), "--data", str(data), "--out", str(folder / "out")])
    return folder / "out"


def test_the_command_writes_the_same_bits_again(params, small_data, tmp_path):
    first, second = (run(params, small_data, tmp_path / name) for name in ("a", "b"))
    for name in ("weights.safetensors", "metrics.json", "images.webp"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert read_json(first / "metrics.json").keys() == {"error", "used", "perplexity", "codes", "use", "trained"}
    with Image.open(first / "images.webp") as shown:
        assert shown.format == "WEBP"


def test_use_is_that_of_the_codes_from_the_most_to_the_least_used(params, small_data):
    codebook, images = TokenizerTraining(params, "cpu").model, training_images(params, small_data)
    counts = codebook(images).flatten().bincount(minlength=16).sort(descending=True).values
    facts = measure(codebook, images)
    assert facts["use"] == pytest.approx((counts / counts.sum()).tolist(), abs=1e-5)
    assert facts["used"] == (counts > 0).double().mean().item()


def test_the_shown_originals_are_the_images(params, small_data):
    images = training_images(params, small_data, 3)
    codebook = VQTokenizer(params)
    found, shown = side_by_side(codebook, images), codebook.decode_images(codebook(images))
    for number in range(3):
        left = number * (SIDE + GAP)
        for row, image in enumerate((images[number], shown[number])):
            place = found[row * (SIDE + GAP) :, left:][:SIDE, :SIDE]
            assert np.array_equal(place[::6, ::6], image.numpy())


def test_only_losses_that_read_codes_ask_for_it(change, params, tmp_path):
    assert load_codebook(change("clip", SMALL), tmp_path, "cpu") is None
    assert load_codebook(change("flava", {**SMALL, "flava": {"mim": 0.0, "mmm_image": 0.0}}), tmp_path, "cpu") is None
    with pytest.raises(
        ValueError, match=r"codebook/weights.safetensors: not found, though .* run flip.train.image_tokenizer first"
    ):
        load_codebook(params, tmp_path, "cpu")


def test_codes_are_read_in_training_and_get_no_gradient(params, small_data):
    codebook = load_codebook(params, small_data, "cpu")
    assert not any(parameter.requires_grad for parameter in codebook.parameters())
    codes = codebook(training_images(params, small_data, 4))
    assert codes.shape == (4, 16)
    assert codes.dtype == torch.int64


@pytest.fixture
def dalle(change, monkeypatch, tmp_path):
    """A file of DALL-E's encoder, small and random, and parameters that take it; 16 pixels in 4 x 4 patches."""
    from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

    sizes = {"hidden_size": 4, "num_blocks_per_group": 1}
    monkeypatch.setattr("flip.model.dalle.SIZES", sizes)
    torch.manual_seed(0)
    theirs = FlavaImageCodebook(FlavaImageCodebookConfig(vocab_size=16, **sizes))
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    save_weights(tmp_path / "dalle.safetensors", theirs.state_dict())
    given = {**SMALL["codebook"], "weights": str(tmp_path / "dalle.safetensors")}
    return change("flava", SMALL | {"codebook": given}), theirs


def test_dalles_codes_are_those_of_transformers_preprocessed_alike(dalle, small_data):
    from transformers.models.flava.image_processing_flava import FlavaImageProcessor

    params, theirs = dalle
    images = training_images(params, small_data)
    ours = load_dalle(params, build_loader(params, small_data, read_json(small_data / "manifest.json")), "cpu")
    size = {"height": 32, "width": 32}
    processor = FlavaImageProcessor(
        return_codebook_pixels=True, codebook_size=size, codebook_crop_size=size, codebook_resample=3,
        codebook_image_mean=[0.0] * 3, codebook_image_std=[1.0] * 3,
    )  # fmt: skip
    pixels = processor(list(images.permute(0, 3, 1, 2)), return_tensors="pt")["codebook_pixel_values"]
    expected = theirs.get_codebook_indices(pixels).flatten(1)
    # Theirs rounds to bytes when it has enlarged the images.
    assert (ours(images) == expected).double().mean() > 0.97
    exact = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    expected = theirs.get_codebook_indices(0.8 * exact.permute(0, 3, 1, 2) / 255 + 0.1).flatten(1)
    assert torch.equal(ours(exact), expected)


def test_what_a_code_shows_is_the_mean_of_its_patches(dalle, small_data):
    params, _ = dalle
    codebook = DallE(params)
    image = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    codes = torch.arange(48).reshape(3, 16) % 5
    codebook.fit(image, codes)
    for code in range(5):
        assert torch.allclose(codebook.entries[code], codebook.targets(image)[codes == code].mean(0), atol=1e-5)
    assert not codebook.entries[5:].any()


def test_dalle_from_a_file_serves_training_as_a_trained_one_does(dalle, small_data, tmp_path):
    params, _ = dalle
    (tmp_path / "params.yaml").write_text(dump(params))
    main(["--params", str(tmp_path / "params.yaml"), "--data", str(small_data), "--out", str(tmp_path / "codebook")])
    facts = read_json(tmp_path / "codebook" / "metrics.json")
    assert facts["trained"] is False
    assert 0 < facts["error"] < 1
    found, images = load_codebook(params, tmp_path, "cpu"), training_images(params, small_data)
    assert found(images).shape == (32, 16)
    assert found.decode_images(found(images)).shape == images.shape
    assert not any(weight.requires_grad for weight in found.parameters())


def test_a_file_with_another_number_of_codes_is_refused(dalle, change, small_data):
    params, _ = dalle
    other = change("flava", SMALL | {"codebook": {**SMALL["codebook"], "weights": params.codebook.weights, "codes": 8}})
    loader = build_loader(other, small_data, read_json(small_data / "manifest.json"))
    with pytest.raises(ValueError, match=r"dalle.safetensors: 'blocks.output.conv.weight' has shape \[16, 32, 1, 1\]"):
        load_dalle(other, loader, "cpu")
