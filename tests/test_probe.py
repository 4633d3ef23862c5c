"""The linear probe: what can be separated is, what is noise scores chance; the penalty is what it is said to be, is
chosen on images held out by the set's own measure, and neither the features' size nor the order of a run matters;
several labels have a probe each."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, top_k_accuracy_score
from sklearn.preprocessing import StandardScaler

from flip.evaluate import probe
from flip.evaluate.features import Features, compute
from flip.losses import build_towers
from flip.metrics.scoring import number
from flip.testsets.reader import read_set
from tests.colour_sets import IMAGES, write_set
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
    """2000 images of 5 classes: within four standard errors of 20 %."""
    right = probe.outcomes(features(400, 0.0, 0), features(2000, 0.0, 1))
    assert abs(right.mean() - 1 / CLASSES) < 4 * np.sqrt(0.2 * 0.8 / 2000)


def test_the_probe_comes_near_the_best_rule_there_is():
    """For equal Gaussians that is to name the nearest centre."""
    training, test = features(2000, 2.0, 0), features(2000, 2.0, 1)
    centres = 2.0 * torch.eye(WIDTH)[:CLASSES]
    best = (torch.cdist(test.pooled, centres).argmin(1) == torch.cat(test.targets)).float().mean()
    assert probe.outcomes(training, test).mean() == pytest.approx(float(best), abs=0.02)


@pytest.mark.parametrize("strength", [1.0, 1e-3])
def test_the_penalty_is_per_image(strength):
    """The fit is where the gradient of mean cross-entropy + strength / 2 x squared weights is zero."""
    training = features(300, 1.0, 0)
    x, y = training.pooled.double(), torch.from_numpy(training.labels)
    fitted = next(probe.fits(x.numpy(), y.numpy(), [strength])).set_params(tol=1e-8).fit(x.numpy(), y.numpy())
    weight, bias = (torch.tensor(value, requires_grad=True) for value in (fitted.coef_, fitted.intercept_))
    loss = F.cross_entropy(x @ weight.T + bias, y) + strength / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6


def scikit_learns(training, test):
    """The same sweep by LogisticRegression, each fit from zero."""
    scaler = StandardScaler().fit(training.pooled.numpy())
    x, y = scaler.transform(training.pooled.numpy()), training.labels
    held, rest = np.split(np.random.default_rng(0).permutation(len(y)), [int(probe.HELD_OUT * len(y))])
    made = lambda strength, rows: LogisticRegression(C=1 / (strength * len(rows)), max_iter=1000).fit(x[rows], y[rows])  # noqa: E731
    right = [made(strength, rest).score(x[held], y[held]) for strength in probe.STRENGTHS]
    one = made(probe.STRENGTHS[np.argmax(right)], np.arange(len(y)))
    return one.predict(scaler.transform(test.pooled.numpy())) == test.labels


@pytest.mark.parametrize("signal", [0.3, 1.0, 3.0])
def test_outcomes_are_those_of_scikit_learns_sweep(signal):
    training, test = features(600, signal, 0), features(1000, signal, 1)
    assert (probe.outcomes(training, test) == scikit_learns(training, test)).mean() > 0.99


def test_a_class_without_a_training_image_is_never_said():
    training, test = features(400, 3.0, 0), features(200, 3.0, 1)
    some = training.labels != CLASSES - 1
    fewer = Features(training.pooled[some], [torch.from_numpy(training.labels[some])])
    right = probe.outcomes(fewer, test)
    assert right[test.labels == CLASSES - 1].sum() == 0
    assert right[test.labels != CLASSES - 1].mean() > 0.9


def test_the_sweep_holds_images_out():
    """60 images are told apart by 108 features, most of them noise; only others show that this is too much."""
    few, many = features(60, 0.7, 0), features(4000, 3.0, 0)
    wide = np.concatenate([few.pooled.numpy(), np.random.default_rng(0).normal(size=(60, 100))], axis=1)
    assert next(probe.fits(wide, few.labels, probe.STRENGTHS[-1:])).score(wide, few.labels) == 1
    assert probe.sweep(wide, few.labels) > probe.sweep(many.pooled.numpy() / 10, many.labels)


def labelled(count, signal, seed):
    """Features as above and labels [count, 3], each of which lies along an axis of its own."""
    random = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, 3, generator=random) < 0.4).long()
    pooled = torch.randn(count, WIDTH, generator=random)
    pooled[:, :3] += signal * labels
    return Features(pooled, list(labels.split(count // 2 + 1)))


def test_several_labels_have_a_probe_each():
    """Of one strength, and else those that would be fitted to each label alone."""
    training, test = labelled(400, 1.5, 0), labelled(200, 1.5, 1)
    x, strength = training.pooled.numpy(), probe.sweep(training.pooled.numpy(), training.labels, "map-11")
    found = probe.logits(probe.fit(x, training.labels, "map-11"), test.pooled.numpy(), 3)
    for label in range(3):
        alone = next(probe.fits(x, training.labels[:, label], [strength]))
        np.testing.assert_allclose(found[:, label], alone.decision_function(test.pooled.numpy()), atol=1e-3)
    assert number("map", probe.outcomes(labelled(200, 30.0, 0), labelled(100, 30.0, 1), "map")) == 100


@pytest.mark.parametrize("measure", ["mean-per-class", "auc", "top1-top5"])
def test_the_probe_is_measured_as_its_set_is(measure):
    """As scikit-learn does from its probabilities; a class that was not learned from is never said."""
    classes = 2 if measure == "auc" else 7
    label = np.arange(420) % classes
    x = np.random.default_rng(0).normal(size=(420, WIDTH)) + 1.5 * np.eye(WIDTH)[label]
    seen = label < 6
    training = Features(torch.from_numpy(x[:300][seen[:300]]), [torch.from_numpy(label[:300][seen[:300]])])
    test = Features(torch.from_numpy(x[300:]), [torch.from_numpy(label[300:])])
    found = number(measure, probe.outcomes(training, test, measure))
    scaler = StandardScaler().fit(training.pooled.numpy())
    fitted = probe.fit(scaler.transform(training.pooled.numpy()), training.labels, measure)
    chances = fitted.predict_proba(scaler.transform(x[300:]))
    expected = {
        "mean-per-class": lambda: balanced_accuracy_score(label[300:], chances.argmax(1)),
        "auc": lambda: roc_auc_score(label[300:], chances[:, 1]),
        "top1-top5": lambda: np.mean(
            [top_k_accuracy_score(label[300:], np.c_[chances, np.zeros(120)], k=k, labels=range(7)) for k in (1, 5)]
        ),
    }
    assert found == pytest.approx(100 * expected[measure](), abs=1e-3)


def test_neither_size_nor_place_of_features_matters_and_runs_repeat():
    training, test = features(300, 1.0, 0), features(300, 1.0, 1)
    first = probe.outcomes(training, test)
    assert (first == probe.outcomes(training, test)).all()
    moved = [Features(64 * one.pooled + 8, one.targets) for one in (training, test)]
    assert (first == probe.outcomes(*moved)).mean() > 0.99


def test_features_are_those_of_the_pooled_tower(change, tmp_path):
    """Before the projection, in the set's order."""
    torch.manual_seed(0)
    model = build_towers(change("clip", SMALL), 4).eval()
    folder = write_set(tmp_path / "fine", train=30)
    for split, count in (("test", IMAGES), ("train", 30)):
        loader = read_set(folder, 16, 16, split)
        images, labels = zip(*loader, strict=True)
        found = compute(model, loader, "cpu")
        assert found.pooled.shape == (count, 16)
        assert found.labels.tolist() == torch.cat(labels).tolist() == [item % 4 for item in range(count)]
        with torch.no_grad():
            assert torch.equal(found.pooled, torch.cat([model.vision.pool(model.vision(one)) for one in images]))
        assert torch.equal(torch.cat([pooled for pooled, _ in found.batches()]), found.pooled)


def test_what_is_certain_has_a_score_and_no_two_are_equal_for_want_of_digits():
    """Far from the border a probability is 0 in every float; its logarithm is not."""
    features = np.array([[-1.0], [1.0]], np.float32).repeat(20, 0)
    fitted = probe.fit(features, np.array([0] * 20 + [1] * 20))
    with np.errstate(divide="raise", invalid="raise"):
        found = probe.logits(fitted, np.array([[1e3], [2e3], [4e3]], np.float32), 2)
    assert np.isfinite(found).all()
    assert found[0, 0] > found[1, 0] > found[2, 0]
