"""Intervals of several items to an image (captions, statements, boxes): images are drawn, whole, as a cluster bootstrap
written out by hand does; they hold what they promise; and where all images have as many items, nothing is new."""

import numpy as np
import pytest

from flip.evaluate import retrieval
from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import by_image, number, percent
from flip.report.bootstrap import generator
from flip.report.intervals import estimates

RESAMPLES = 1000


def simulated(rng, images=200, most=7, share=0.5):
    """Outcomes of one to seven items to an image that mostly agree, and each one's image; large ones are worse."""
    sizes = rng.integers(1, most + 1, images)
    owners = np.repeat(np.arange(images), sizes)
    right = rng.random(images) < share + 0.05 * (4 - sizes)
    return np.where(rng.random(len(owners)) < 0.9, right[owners], rng.random(len(owners)) < share).astype(float), owners


def interval(values, owners, name="set", resamples=RESAMPLES, confidence=0.95):
    stored = by_image(values, owners)[None]
    return estimates({("v", "m"): stored}, name, resamples)["v", "m"].interval(confidence)


def by_hand(values, owners, name="set"):
    """The percentiles of the mean over the items of as many images as there are, drawn with replacement."""
    groups = [values[owners == image] for image in np.unique(owners)]
    rng, found = generator(f"items of {name}"), []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(groups), len(groups))
        found.append(100 * np.concatenate([groups[one] for one in drawn]).mean())
    return np.quantile(found, [0.025, 0.975])


@pytest.mark.parametrize("seed", range(4))
def test_an_interval_is_that_of_a_cluster_bootstrap(seed):
    values, owners = simulated(np.random.default_rng(seed))
    found = interval(values, owners)
    assert found == pytest.approx(by_hand(values, owners), abs=1e-4)
    alone = estimates({("v", "m"): values[None]}, "set", RESAMPLES)["v", "m"].interval(0.95)
    assert np.diff(found) > 1.4 * np.diff(alone), "single items would promise too much"


def test_the_order_of_items_does_not_matter():
    rng = np.random.default_rng(0)
    values, owners = simulated(rng)
    order = rng.permutation(len(values))
    assert np.array_equal(by_image(values[order], owners[order]), by_image(values, owners))


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truth = 100 * np.mean(np.concatenate([simulated(rng)[0] for _ in range(500)]))
    runs = range(300)
    intervals = [interval(*simulated(rng), f"set {run}", 300, 0.9) for run in runs]
    assert 0.86 < np.mean([low <= truth <= high for low, high in intervals]) < 0.94


def test_the_value_is_the_mean_over_items():
    rng = np.random.default_rng(2)
    for most in (1, 2, 7):
        values, owners = simulated(rng, most=most)
        assert number(ACCURACY, by_image(values, owners)) == pytest.approx(100 * values.mean(), abs=1e-4)


@pytest.mark.parametrize("captions", [1, 2, 3, 5])
def test_equal_numbers_give_what_they_gave(captions):
    """The mean of each image's captions was one item: the same values and the same resamples, bit for bit."""
    rng = np.random.default_rng(captions)
    outcomes = (rng.random((3, 400 * captions)) < 0.4).astype(np.float32)
    before = outcomes.reshape(3, 400, captions).mean(axis=2)
    now = np.stack([by_image(row, np.arange(400 * captions) // captions) for row in outcomes])
    assert now.shape == ((3, 400) if captions == 1 else (3, 400, 2))
    old, new = (estimates({("v", "m"): one}, "retrieval", 200)["v", "m"] for one in (before, now))
    assert np.array_equal(old.resampled, new.resampled)
    assert percent(ACCURACY, now) == pytest.approx(old.value, abs=1e-12) == pytest.approx(new.value, abs=1e-12)


def test_differences_are_paired():
    values, owners = simulated(np.random.default_rng(3))
    stored = {(name, "m"): by_image(values, owners)[None] for name in ("a", "b")}
    found = estimates(stored, "set", 100)
    assert found.difference(("a", "m"), ("b", "m")).interval(0.95) == (0, 0)


def test_retrieval_stores_each_images_captions(monkeypatch):
    """Of one, three, no and two captions, of which some find their image first."""
    owners, ranks = [0, 1, 1, 1, 3, 3], [1, 1, 2, 1, 9, 1]
    found = [retrieval.torch.tensor(one) for one in (ranks, [1, 1, 7, 1])]
    features = retrieval.torch.zeros(4, 2), retrieval.torch.zeros(6, 2), retrieval.torch.tensor(owners)
    monkeypatch.setattr(retrieval, "embed", lambda *_: features)
    monkeypatch.setattr(retrieval, "ranks", lambda *_: found)
    stored = retrieval.outcomes(None, None, None, "cpu")
    assert stored["image-r1"].tolist() == [[1, 1], [pytest.approx(2 / 3), 3], [0.5, 2]]
    assert stored["text-r1"].tolist() == [1, 1, 0, 1]
    assert number(ACCURACY, stored["image-r1"]) == pytest.approx(100 * 4 / 6, abs=1e-4)
