"""Images of another size: their positions are interpolated as timm's, and stages pass them on."""

import pytest
import torch
from timm.layers import resample_abs_pos_embed

from flip.config.frozen import merge
from flip.config.resolve import read_project
from flip.evaluate.__main__ import at_full_size
from flip.losses import build_towers
from flip.model.vision import fixed_positions, resample_positions, sincos_positions
from flip.model.weights import save_weights
from flip.plan.step import step_flops
from flip.provenance.specs import recipe
from flip.train.loop import Begin
from flip.train.work import work
from tests.miniature import ROOT


@pytest.mark.parametrize(("old", "new"), [(3, 6), (6, 9), (6, 3), (7, 16), (4, 4)])
def test_positions_are_interpolated_as_by_timm(old, new):
    positions = torch.randn(old**2, 24)
    theirs = resample_abs_pos_embed(positions[None], [new, new], num_prefix_tokens=0)[0]
    torch.testing.assert_close(resample_positions(positions, new), theirs, rtol=0, atol=1e-6)


def test_a_resolution_is_rounded_to_complete_patches():
    for scale, sides in (("tiny", [16, 24, 72]), ("cc12m", [80, 112, 336])):
        variants = map(read_project(scale=scale).resolve, ("stages-low", "resize-75", "stages-high"))
        assert [one.model.image for one in variants] == sides


def test_fixed_positions_of_every_stage_are_those_of_the_first(project):
    low, full, high = (project.resolve(name).model for name in ("stages-low", "stages-full", "stages-high"))
    assert (low.first_image, full.first_image, high.first_image) == (None, low.image, low.image)
    first = sincos_positions(low.vision.width, low.grid)
    for model in (low, full, high):
        theirs = resample_abs_pos_embed(first[None], [model.grid] * 2, num_prefix_tokens=0)[0]
        torch.testing.assert_close(fixed_positions(model.vision.width, model), theirs, rtol=0, atol=1e-6)


def test_a_stage_begins_with_the_weights_before_and_their_positions(project, tmp_path):
    """Learned ones come with the weights; images as large as before then give the same features."""
    learned = {"form": {"vision": {"positions": "learned"}}}
    tree = merge(project.tree, {"variants": {"stages-low": merge(project.tree["variants"]["stages-low"], learned)}})
    part = type(project)(tree, project.scale)
    low, full = (build_towers(part.resolve(name), 50) for name in ("stages-low", "stages-full"))
    assert full.params.model.first_image is None
    save_weights(tmp_path / "low.safetensors", low.state_dict())
    Begin(start=tmp_path / "low.safetensors").load(full)
    expected = resample_abs_pos_embed(low.vision.positions[None], [full.params.model.grid] * 2, num_prefix_tokens=0)
    torch.testing.assert_close(full.vision.positions, expected[0], rtol=0, atol=1e-6)
    again = build_towers(low.params, 50)
    Begin(start=tmp_path / "low.safetensors").load(again)
    images = torch.randint(0, 256, (2, low.params.model.image, low.params.model.image, 3), dtype=torch.uint8)
    assert torch.equal(again.encode_image(images), low.encode_image(images))


@pytest.mark.parametrize("positions", ["sincos", "learned"])
def test_a_model_of_small_images_takes_full_ones_with_interpolated_positions(project, positions):
    learned = {"form": {"vision": {"positions": positions}}}
    tree = merge(project.tree, {"variants": {"resize-75": merge(project.tree["variants"]["resize-75"], learned)}})
    model = build_towers(type(project)(tree, project.scale).resolve("resize-75"), 50)
    images = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    small, before = images[:, :24, :24], model.vision.positions.clone()
    features = model.encode_image(small)
    found = at_full_size(model)
    expected = resample_abs_pos_embed(before[None], [6, 6], num_prefix_tokens=0)[0]
    torch.testing.assert_close(found.vision.positions.detach(), expected.detach(), rtol=0, atol=1e-6)
    assert found.encode_image(images).shape == features.shape
    assert torch.equal(model.encode_image(small), features)
    assert found.params.model.image == 48
    assert project.resolve("clip").model.full_image is project.resolve("stages-high").model.full_image is None


def test_fewer_pixels_cost_what_as_few_patches_do(project):
    """Half of the side is a quarter of the patches: a step counts as many FLOPs as one that keeps a quarter."""
    resized, masked = (step_flops(work(project.resolve(name))) for name in ("resize-75", "flip-75"))
    assert resized == pytest.approx(masked, rel=1e-3)


def test_a_stage_builds_on_all_before_it(project):
    """So jobs wait for them, and costs and samples of the table's row are those of all."""
    assert project.chain("stages-high") == ["stages-high", "stages-full", "stages-low"]


def test_a_resolution_leaves_no_trace_in_other_variants():
    """What other variants are made from is as it was: no new key is in their recipe."""
    project = read_project(ROOT / "params.yaml")
    assert "first_image" not in recipe(project, "flip-75-tuned")["model"]
    assert recipe(project, "stages-high")["model"]["first_image"] == 16
