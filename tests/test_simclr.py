"""SLIP's second loss: NT-Xent is the textbook's and the reference value's, its head is torch's MLP with BatchNorm over
the whole batch, its views are torchvision's colours and depend on seed and position alone, and nobody else pays for it.
"""

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms import functional as theirs

from flip.data import views as ours
from flip.losses.simclr import nt_xent
from flip.model.simclr import BatchNorm, ProjectionHead
from flip.train.process_group import ProcessGroup
from tests.conftest import SMALL
from tests.processes import together
from tests.test_train import advance, make_run


@pytest.fixture
def small(change):
    return lambda variant, **sections: change(variant, SMALL | sections)


def reference(phase):
    """Rows [8, 16] of unit length, without random numbers."""
    i, j = torch.arange(8).double()[:, None], torch.arange(16).double()
    return F.normalize(torch.sin(0.7 * i + 1.3 * j + phase) + 0.25 * torch.cos(2.1 * i * j + phase), dim=1)


def random_views(pairs, width=6):
    torch.manual_seed(0)
    return F.normalize(torch.randn(pairs, 2, width).double(), dim=-1)


def textbook(views, temperature):
    """Row by row: minus the log of the share that the partner has of all views but the row's own."""
    rows = torch.cat([views[:, 0], views[:, 1]])
    similarity = (rows @ rows.T / temperature).exp()
    count = len(rows)
    losses = []
    for i in range(count):
        others = sum(similarity[i, k] for k in range(count) if k != i)
        losses.append(-(similarity[i, (i + count // 2) % count] / others).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("side", [None, 1, 3, 16])
def test_the_reference_value(side):
    """SLIP's released loss on the inputs that other losses are compared on, too."""
    views = torch.stack([reference(0), F.normalize(reference(0.4) + 0.1 * reference(1.9), dim=1)], dim=1)
    assert nt_xent(views, 0.1, side).item() == pytest.approx(1.0187202104, abs=5e-11)


@pytest.mark.parametrize("side", [None, 1, 5])
def test_the_loss_is_the_textbooks_with_its_gradients(side):
    expected, found = (random_views(7).requires_grad_() for _ in range(2))
    loss = textbook(expected, 0.2)
    loss.backward()
    value = nt_xent(found, 0.2, side)
    value.backward()
    torch.testing.assert_close(value, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-14)


def test_two_equal_views_unlike_all_others():
    views = torch.eye(5).double()[:, None].expand(-1, 2, -1)
    assert nt_xent(views, 0.1).item() == pytest.approx(math.log(1 + 8 * math.exp(-10)), rel=1e-12)
    everything_alike = torch.ones(5, 2, 1).double()
    assert nt_xent(everything_alike, 0.1).item() == pytest.approx(math.log(9), rel=1e-12)


def test_which_view_is_which_does_not_matter():
    views = random_views(6)
    torch.testing.assert_close(nt_xent(views.flip(1), 0.1), nt_xent(views, 0.1), rtol=1e-12, atol=0)


def own_part(world, views, side):
    count = len(views) // world.size
    own = views[world.rank * count : (world.rank + 1) * count].clone().requires_grad_()
    norm = BatchNorm(views.shape[-1], world.all_gather).double()
    loss = nt_xent(F.normalize(norm(own) + own, dim=-1), 0.1, side, world)
    loss.backward()
    return world.sum(loss), own.grad, world.sum(norm.weight.grad)


@pytest.mark.parametrize("side", [None, 3])
def test_loss_and_statistics_over_processes_are_those_of_one(side):
    views = random_views(12)
    loss, rows, gain = own_part(ProcessGroup(), views, None)
    found = together(3, own_part, views, side)
    for value, _, weight in found:
        torch.testing.assert_close(value, loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(weight, gain, rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.cat([own for _, own, _ in found]), rows, rtol=1e-9, atol=1e-14)


def test_the_head_is_torchs_on_each_view(small):
    """Linear, BatchNorm and ReLU twice, and a Linear, as torch has them: values and gradients."""
    head = ProjectionHead(16, small("slip").simclr).double()
    layers = [type(one)() if isinstance(one, nn.ReLU) else one for one in head]
    layers = [nn.BatchNorm1d(24, track_running_stats=False) if isinstance(one, BatchNorm) else one for one in layers]
    torchs = nn.Sequential(*layers).double()
    x, weight = torch.randn(10, 2, 16).double(), torch.randn(10, 2, 8).double()
    gradients = []
    for project in (head, lambda x: torch.stack([torchs(x[:, view]) for view in (0, 1)], dim=1)):
        leaf = x.clone().requires_grad_()
        out = project(leaf)
        gradients.append((out, *torch.autograd.grad((out * weight).sum(), [leaf, head[0].weight])))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_who_has_no_such_loss_has_no_views_and_no_head(small, small_data):
    slip, clip = (make_run(small(name), small_data) for name in ("slip", "clip"))
    assert "views" not in clip.loader.batch(0, 4)
    extra = slip.model.state_dict().keys() - clip.model.state_dict().keys()
    assert {name.split(".")[0] for name in extra} == {"passes"}
    first, second = slip.loader.batch(3, 5), clip.loader.batch(3, 5)
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())


def test_views_teach_the_image_tower_and_nothing_of_the_captions(small, small_data):
    run = make_run(small("slip"), small_data)
    run.losses(run.loader.batch(0, 8))["simclr"].backward()
    touched = {name for name, one in run.model.named_parameters() if one.grad is not None and one.grad.any()}
    assert {name.split(".")[0] for name in touched} == {"vision", "passes"}


def test_simclr_alone_has_no_text_tower_and_learns(small, small_data):
    run = make_run(small("slip", contrastive={"weight": 0.0}), small_data)
    assert run.model.text is None
    losses = [step["simclr"].item() for step in advance(run, 45)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_views_depend_on_seed_and_position_alone(small, small_data):
    loader = make_run(small("slip"), small_data).loader
    whole = loader.batch(0, 24)["views"]
    assert whole.shape == (24, 2, 16, 16, 3)
    assert whole.dtype == torch.uint8
    for workers in (0, 2):
        batches = loader.batches(6, 3, workers, 9)
        for start in (6, 15):
            assert torch.equal(next(batches)["views"], whole[start : start + 3])
        batches.close()
    assert not torch.equal(make_run(small("slip"), small_data, seed=1).loader.batch(0, 24)["views"], whole)
    assert sum(torch.equal(*pair) for pair in whole) < 6  # white stays white


def photo():
    """[48, 48, 3]: smooth, in all colours."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("change", "reference", "amounts", "far"),
    [
        (ours.brighten, theirs.adjust_brightness, (0.6, 1.0, 1.4), 1),
        (ours.contrast, theirs.adjust_contrast, (0.6, 1.0, 1.4), 2),
        (ours.saturate, theirs.adjust_saturation, (0.6, 1.0, 1.4), 2),
        (ours.turn_hue, theirs.adjust_hue, (-0.1, 0.0, 0.1), 12),
    ],
)
def test_each_change_of_colour_is_torchvisions(change, reference, amounts, far):
    """Up to rounding; for the hue, both libraries round twice more, to another notation and back."""
    for amount in amounts:
        expected = np.asarray(reference(Image.fromarray(photo()), amount)).astype(int)
        error = np.abs(change(photo(), amount) - expected)
        assert error.max() <= far
        assert error.mean() < far / 4


def test_the_stated_shares_of_views_are_changed(change):
    views = change("slip").simclr.views
    image, draws = photo(), np.random.default_rng(0).random((1500, ours.DRAWS))
    recoloured = np.stack([ours.recolour(image, views, one) for one in draws]).astype(int)
    gray = np.ptp(recoloured, axis=-1).max(axis=(1, 2)) == 0
    assert gray.mean() == pytest.approx(views.gray_share, abs=0.03)
    unchanged = (recoloured == image).all(axis=(1, 2, 3))
    nothing = (1 - views.jitter_share) * (1 - views.gray_share) * (1 - views.blur_share)
    assert nothing - 0.03 < unchanged.mean() < nothing + 0.1  # the weakest blurs change no byte
    assert (recoloured[gray & (draws[:, 0] > views.jitter_share) & (draws[:, 10] > 0.5)] == ours.in_gray(image)).all()


def test_no_jitter_of_no_strength(change):
    still = change("slip", {"simclr": {"views": dict.fromkeys(["brightness", "contrast", "saturation", "hue"], 0.0)}})
    jittered = ours.jitter(photo(), still.simclr.views, np.arange(4.0)[::-1], np.full(4, 0.9))
    assert np.abs(jittered.astype(int) - photo()).max() <= 8
