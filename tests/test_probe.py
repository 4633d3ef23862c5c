"""The linear probe: what can be separated is, what is noise scores chance; a fit, and a whole sweep, is scikit-learn's
logistic regression, also for several labels; the penalty is chosen on pictures held out, and neither the features' size
nor the order of a run matters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from flip import scoring
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


def blank(width, columns):
    return torch.zeros(width + 1, columns, dtype=torch.float64)


def labels_of(training, columns):
    """Labels of `columns` kinds, of which a picture has some or none."""
    noise = torch.randn(len(training.pooled), columns, generator=torch.Generator().manual_seed(7))
    return (training.pooled[:, :columns] + noise > 0.5).float()


@pytest.mark.parametrize("strength", [1.0, 1e-3])
@pytest.mark.parametrize("kind", ["classes", "two classes", "labels"])
def test_a_fit_is_scikit_learns_logistic_regression(kind, strength, monkeypatch):
    """To the last digits that its solver gives: softmax, sigmoid of two classes, one against the rest of each label."""
    monkeypatch.setattr(probe, "TOLERANCE", 1e-9)
    training = features(300, 1.0, 0)
    x, y = training.pooled.double(), training.labels
    theirs = LogisticRegression(C=1 / (strength * 300), max_iter=10_000, tol=1e-9)
    if kind == "two classes":
        y = y % 2
    if kind == "labels":
        y, theirs = labels_of(training, 3).numpy(), OneVsRestClassifier(theirs)
    theirs.fit(x.numpy(), y)
    targets = probe.aims(y, len(np.unique(y)))
    columns = {"classes": CLASSES, "two classes": 1, "labels": 3}[kind]
    found = probe.fit(x, targets.double() if targets.ndim == 2 else targets, strength, blank(WIDTH, columns))
    each = theirs.estimators_ if kind == "labels" else [theirs]
    expected = np.concatenate([np.column_stack([one.coef_, one.intercept_]) for one in each])
    expected[:, -1] += found[-1].mean().item() - expected[:, -1].mean()  # a softmax does not notice a common shift
    np.testing.assert_allclose(found.T, expected, atol=1e-5)


def test_the_gradient_is_as_small_as_scikit_learn_asks():
    """Of weights, not of what the optimizer moves."""
    training = features(300, 1.0, 0)
    x, y = training.pooled * torch.logspace(-1, 1, WIDTH), torch.from_numpy(training.labels)
    found = probe.fit(x, y, 1e-4, blank(WIDTH, CLASSES)).requires_grad_()
    loss = F.cross_entropy(x.double() @ found[:-1] + found[-1], y) + 1e-4 / 2 * found[:-1].square().sum()
    assert torch.autograd.grad(loss, found)[0].abs().max() < 1.01 * probe.TOLERANCE


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


@pytest.mark.parametrize("measure", ["map", "map-11"])
def test_pictures_with_several_labels_are_probed_by_their_measure(measure):
    """As scikit-learn's average precision has it, of its own fit at the strength that the sweep chose."""
    training, test = (features(count, 1.0, seed) for seed, count in enumerate((600, 400)))
    labels = [Features(one.pooled, list(labels_of(one, 3).long().split(150))) for one in (training, test)]
    found = scoring.percent(measure, probe.outcomes(*labels, measure)[None])
    scaler = StandardScaler().fit(training.pooled)
    x, y = (torch.from_numpy(scaler.transform(training.pooled)), labels[0].labels)
    strength, _ = probe.sweep(x, y, 2, measure)
    one = OneVsRestClassifier(LogisticRegression(C=1 / (strength * 600))).fit(x.numpy(), y)
    kept = scoring.kept(measure, one.predict_proba(scaler.transform(test.pooled)), labels[1].labels)
    assert found == pytest.approx(scoring.percent(measure, kept[None]), abs=0.2)
    assert found > 80


def test_two_classes_are_probed_by_the_area_under_their_curve():
    training, test = features(600, 1.0, 0), features(400, 1.0, 1)
    two = [Features(one.pooled, [batch % 2 for batch in one.targets]) for one in (training, test)]
    rows = probe.outcomes(*two, "auc")
    assert rows.shape == (400, 2)
    assert scoring.percent("auc", rows[None]) == pytest.approx(100 * roc_auc_score(rows[:, 1], rows[:, 0]))


def test_a_class_without_a_training_picture_is_never_said():
    training, test = features(400, 3.0, 0), features(200, 3.0, 1)
    some = training.labels != CLASSES - 1
    fewer = Features(training.pooled[some], [torch.from_numpy(training.labels[some])])
    right = probe.outcomes(fewer, test)
    assert right[test.labels == CLASSES - 1].sum() == 0
    assert right[test.labels != CLASSES - 1].mean() > 0.9


def test_the_sweep_holds_pictures_out():
    """60 pictures are told apart by 108 features, most of them noise; only others show that this is too much."""
    few, many = features(60, 0.7, 0), features(4000, 3.0, 0)
    wide = torch.cat([few.pooled, torch.randn(60, 100, generator=torch.Generator().manual_seed(0))], dim=1)
    weakest = probe.fit(wide, torch.from_numpy(few.labels), probe.STRENGTHS[-1], blank(WIDTH + 100, CLASSES))
    assert (probe.logits(wide, weakest).argmax(1).numpy() == few.labels).all()
    assert probe.sweep(wide, few.labels, CLASSES)[0] > probe.sweep(many.pooled / 10, many.labels, CLASSES)[0]


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
