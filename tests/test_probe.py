"""The linear probe: what can be separated is, what is noise scores chance; the penalty is what it is said to be, is
chosen on pictures held out, and neither the features' size nor the order of a run matters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flip.evaluate import probe
from flip.evaluate.features import Features, compute
from flip.evaluate.sets import read_set
from flip.model.two_towers import TwoTowers
from tests.colour_sets import PICTURES, write_set
from tests.conftest import SMALL

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
CLASSES, WIDTH = 5, 8


def features(count, signal, seed):
    """Gaussian features whose classes' centres lie `signal` along an axis each, in two batches."""
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Features(noise + signal * F.one_hot(labels, WIDTH), list(labels.split(count // 2 + 1)))


def test_what_can_be_separated_is():
    right = probe.outcomes(features(200, 20.0, 0), features(100, 20.0, 1))
    assert right.dtype == np.float32
    assert right.tolist() == [1.0] * 100


def test_noise_scores_chance():
    """2000 pictures of 5 classes: within four standard errors of 20 %."""
    right = probe.outcomes(features(400, 0.0, 0), features(2000, 0.0, 1))
    assert abs(right.mean() - 1 / CLASSES) < 4 * np.sqrt(0.2 * 0.8 / 2000)


def test_the_probe_comes_near_the_best_rule_there_is():
    """For equal Gaussians that is to name the nearest centre."""
    training, test = features(2000, 2.0, 0), features(2000, 2.0, 1)
    centres = 2.0 * torch.eye(WIDTH)[:CLASSES]
    best = (torch.cdist(test.pooled, centres).argmin(1) == torch.cat(test.targets)).float().mean()
    assert probe.outcomes(training, test).mean() == pytest.approx(float(best), abs=0.02)


@pytest.mark.parametrize("strength", [1.0, 1e-3])
def test_the_penalty_is_per_picture(strength):
    """The fit is where the gradient of mean cross-entropy + strength / 2 x squared weights is zero."""
    training = features(300, 1.0, 0)
    x, y = training.pooled.double(), torch.from_numpy(training.labels)
    fitted = probe.classifier(strength, 300).set_params(tol=1e-8).fit(x.numpy(), y.numpy())
    weight, bias = (torch.tensor(value, requires_grad=True) for value in (fitted.coef_, fitted.intercept_))
    loss = F.cross_entropy(x @ weight.T + bias, y) + strength / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6


def test_the_sweep_holds_pictures_out():
    """60 pictures are told apart by 108 features, most of them noise; only others show that this is too much."""
    few, many = features(60, 0.7, 0), features(4000, 3.0, 0)
    wide = np.concatenate([few.pooled.numpy(), np.random.default_rng(0).normal(size=(60, 100))], axis=1)
    assert probe.classifier(probe.STRENGTHS[-1], 60).fit(wide, few.labels).score(wide, few.labels) == 1
    assert probe.sweep(wide, few.labels) > probe.sweep(many.pooled.numpy() / 10, many.labels)


def test_neither_size_nor_place_of_features_matters_and_runs_repeat():
    training, test = features(300, 1.0, 0), features(300, 1.0, 1)
    first = probe.outcomes(training, test)
    assert (first == probe.outcomes(training, test)).all()
    moved = [Features(64 * one.pooled + 8, one.targets) for one in (training, test)]
    assert (first == probe.outcomes(*moved)).mean() > 0.99


def test_features_are_those_of_the_pooled_tower(change, tmp_path):
    """Before the projection, in the set's order."""
    torch.manual_seed(0)
    model = TwoTowers(change("clip", SMALL), 4).eval()
    folder = write_set(tmp_path / "fine", train=30)
    for split, count in (("test", PICTURES), ("train", 30)):
        loader = read_set(folder, 16, 16, split)
        images, labels = zip(*loader, strict=True)
        found = compute(model, loader, "cpu")
        assert found.pooled.shape == (count, 16)
        assert found.labels.tolist() == torch.cat(labels).tolist() == [item % 4 for item in range(count)]
        with torch.no_grad():
            assert torch.equal(found.pooled, torch.cat([model.vision.pool(model.vision(one)) for one in images]))
        assert torch.equal(torch.cat([pooled for pooled, _ in found.batches()]), found.pooled)
