"""Each measure equals the field's libraries, also when items are drawn several times; oracles score 100, random scores
chance within their interval; what a set does not have is refused."""

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification as benchmark
from sklearn import metrics as sklearn

from flip.metrics import measures, scoring
from flip.report.intervals import estimates

RNG = np.random.default_rng(0)
ITEMS = 400


def several(classes=5, share=0.3):
    labels = (RNG.random((ITEMS, classes)) < share).astype(int)
    return RNG.normal(size=labels.shape) + labels, labels


def single(classes=6):
    # Classes of unequal size, where accuracy and the mean per class differ.
    targets = np.minimum(RNG.integers(0, 3 * classes, ITEMS), classes - 1)
    return RNG.normal(size=(ITEMS, classes)) + np.eye(classes)[targets], targets


def drawn():
    return np.bincount(RNG.integers(0, ITEMS, ITEMS), minlength=ITEMS).astype(float)


def estimate(measure, logits, targets, counts=None):
    row = scoring.kept(measure, logits, targets).astype(float)[None]
    return scoring.ESTIMATE[measure](row, np.ones((1, len(targets))) if counts is None else counts)[0, 0]


def eleven_points(score, label):
    """As VOC 2007's development kit counts, in a loop."""
    order = np.argsort(-score)
    tp = label[order].cumsum()
    precision, recall = tp / np.arange(1, len(tp) + 1), tp / tp[-1]
    return np.mean([max(precision[recall >= step / 10 - 1e-12]) for step in range(11)])


class Scores:
    """Features that are an image's logits; every class's text is its unit vector."""

    def encode_image(self, images):
        return images

    def encode_text(self, tokens):
        return torch.eye(self.classes)[tokens]


def by_clip_benchmark(logits, targets):
    """clip-benchmark's own evaluation of unit features, and the logits that it saw."""
    unit = torch.nn.functional.normalize(torch.tensor(logits, dtype=torch.float32), dim=1)
    model, names = Scores(), [str(one) for one in range(logits.shape[1])]
    model.classes = len(names)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(unit, torch.tensor(targets)), batch_size=100)
    loader.dataset.classes = names[:4]  # its top-5 needs an older numpy
    tokenize = lambda texts: torch.tensor([int(text) for text in texts])  # noqa: E731
    accuracy, benchmark.accuracy = benchmark.accuracy, lambda *_, **__: [0.0]
    try:
        return benchmark.evaluate(model, loader, tokenize, names, ["{c}"], "cpu", amp=False), 100 * unit.numpy()
    finally:
        benchmark.accuracy = accuracy


def test_mean_per_class_is_clip_benchmarks_and_scikit_learns():
    logits, targets = single()
    found, seen = by_clip_benchmark(logits, targets)
    assert estimate("mean-per-class", seen, targets) == pytest.approx(100 * found["mean_per_class_recall"], abs=1e-6)
    counts = drawn()
    expected = sklearn.balanced_accuracy_score(targets, logits.argmax(1), sample_weight=counts)
    assert estimate("mean-per-class", logits, targets, counts[None]) == pytest.approx(100 * expected, abs=1e-6)
    assert estimate("accuracy", logits, targets) == pytest.approx(100 * np.mean(logits.argmax(1) == targets))


def test_mean_average_precision_is_clip_benchmarks_and_scikit_learns():
    logits, labels = several()
    found, seen = by_clip_benchmark(logits, labels)
    # clip-benchmark adds up in float32.
    assert estimate("map", seen, labels) == pytest.approx(100 * found["mean_average_precision"], abs=1e-4)
    float32 = logits.astype(np.float32)
    expected = sklearn.average_precision_score(labels, float32)
    assert estimate("map", logits, labels) == pytest.approx(100 * expected, abs=1e-6)
    rough, counts = logits.round(1), drawn()  # equal scores, too
    expected = sklearn.average_precision_score(labels, rough.astype(np.float32), sample_weight=counts)
    assert estimate("map", rough, labels, counts[None]) == pytest.approx(100 * expected, abs=1e-6)


def test_eleven_points_are_those_of_voc_2007():
    logits, labels = several()
    expected = np.mean([eleven_points(*pair) for pair in zip(logits.T, labels.T, strict=True)])
    assert estimate("map-11", logits, labels) == pytest.approx(100 * expected, abs=1e-6)
    # Drawing each item three times changes neither precision nor recall.
    assert estimate("map-11", logits, labels, np.full((1, ITEMS), 3.0)) == pytest.approx(100 * expected, abs=1e-6)


def test_eleven_points_by_hand():
    """Two right items, first and third of four: precision 1 up to recall 0.5 (six points), then 2/3 (five)."""
    scores, labels = np.array([[4.0], [3], [2], [1]]), np.array([[1], [0], [1], [0]])
    assert estimate("map-11", scores, labels) == pytest.approx(100 * (6 + 5 * 2 / 3) / 11)
    assert estimate("map", scores, labels) == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_auc_is_scikit_learns():
    logits, targets = single(2)
    rough, counts = logits.round(1), drawn()
    for given, weights in ((logits, None), (rough, counts)):
        score = (given[:, 1] - given[:, 0]).astype(np.float32)
        expected = sklearn.roc_auc_score(targets, score, sample_weight=weights)
        found = estimate("auc", given, targets, None if weights is None else weights[None])
        assert found == pytest.approx(100 * expected, abs=1e-6)


def test_top_one_and_top_five_are_scikit_learns():
    logits, targets = single(12)
    top = [sklearn.top_k_accuracy_score(targets, logits, k=k, labels=range(12)) for k in (1, 5)]
    assert estimate("top1-top5", logits, targets) == pytest.approx(100 * np.mean(top), abs=1e-6)


def cases(measure):
    """Targets, and their number of classes, of a set that has the measure."""
    classes = 2 if measure == "auc" else 8
    return (several(classes) if measures.MEASURES[measure].labels else single(classes))[1], classes


@pytest.mark.parametrize("measure", measures.MEASURES)
def test_an_oracle_scores_100(measure):
    targets, classes = cases(measure)
    logits = targets if targets.ndim == 2 else np.eye(classes)[targets]
    assert estimate(measure, logits, targets) == 100
    assert scoring.percent(measure, scoring.kept(measure, logits, targets)[None]) == 100


@pytest.mark.parametrize("measure", measures.MEASURES)
def test_random_scores_are_chance_within_their_interval(measure):
    targets, classes = cases(measure)
    chance = scoring.guessed(measure, targets, classes) or 100 / classes
    inside = 0
    for number in range(20):
        outcomes = scoring.kept(measure, np.random.default_rng(number).random((ITEMS, classes)), targets)
        low, high = estimates({("v", "m"): outcomes[None]}, f"set {number}", 200, measure)["v", "m"].interval(0.99)
        inside += low <= chance <= high
    assert inside >= 18


@pytest.mark.parametrize("measure", measures.MEASURES)
def test_intervals_are_those_of_a_loop_over_resamples(measure):
    """Of two seeds, the value is the mean."""
    targets, classes = cases(measure)
    outcomes = np.stack([scoring.kept(measure, RNG.random((ITEMS, classes)), targets) for _ in range(2)])
    found = estimates({("v", "m"): outcomes}, "set", 300, measure)["v", "m"]
    assert found.value == pytest.approx(np.mean([scoring.percent(measure, one[None]) for one in outcomes]))
    assert found.resampled.shape == (300,)
    apart = estimates({("v", "m"): outcomes[:1]}, "set", 300, measure)["v", "m"].resampled
    rng = np.random.default_rng(1)
    by_hand = [
        scoring.percent(measure, outcomes[:1, rng.integers(0, ITEMS, ITEMS)]) for _ in range(300)
    ]  # fmt: skip
    assert np.std(apart) == pytest.approx(np.std(by_hand), rel=0.25)


def test_a_paired_difference_of_a_model_from_itself_is_nothing():
    logits, labels = several()
    outcomes = scoring.kept("map-11", logits, labels)[None]
    found = estimates({("a", "m"): outcomes, ("b", "m"): outcomes}, "set", 50, "map-11")
    assert found.difference(("a", "m"), ("b", "m")).interval(0.95) == (0, 0)
    np.testing.assert_array_equal(found["a", "m"].resampled, found["b", "m"].resampled)


@pytest.mark.parametrize(
    ("measure", "targets", "classes", "said"),
    [
        ("map", np.zeros(4, int), 3, "not for images with one class; choose accuracy"),
        ("accuracy", np.zeros((4, 3), int), 3, "not for images with several labels; choose map, map-11"),
        ("auc", np.zeros(4, int), 3, "auc is for 2 classes, not 3; choose accuracy, top1-top5, mean-per-class"),
        ("top1-top5", np.zeros(4, int), 5, "more than 5 classes, not 5"),
    ],
)
def test_what_a_set_does_not_have_is_refused(measure, targets, classes, said):
    with pytest.raises(ValueError, match=said):
        scoring.kept(measure, np.zeros((4, classes)), targets)


def test_a_class_without_items_does_not_count():
    logits, targets = np.eye(3)[[0, 1, 1]], np.array([0, 1, 2])
    counts = np.array([[1.0, 1, 0], [1, 1, 2]])
    row = scoring.kept("mean-per-class", logits, targets).astype(float)[None]
    assert scoring.ESTIMATE["mean-per-class"](row, counts)[:, 0] == pytest.approx([100, 200 / 3])


def test_each_measure_is_computed():
    assert measures.MEASURES.keys() == scoring.KEEP.keys() == scoring.ESTIMATE.keys()


@pytest.mark.parametrize(
    ("measure", "expected"), [("accuracy", [1] + 9 * [0]), ("top1-top5", [1] + 4 * [0.5] + 5 * [0])]
)
def test_of_equal_classes_the_first_are_best_and_what_is_no_number_is_right_nowhere(measure, expected):
    targets = np.arange(10)
    assert scoring.kept(measure, np.zeros((10, 10)), targets).tolist() == expected
    assert not scoring.kept(measure, np.full((10, 10), np.nan), targets).any()


@pytest.mark.parametrize(("measure", "targets"), [("auc", [0, 1, 1]), ("map", [[0, 1], [1, 0], [1, 1]])])
def test_images_without_a_score_have_no_order(measure, targets):
    """NaN would be sorted behind all else, and so be a score like any other."""
    logits = np.array([[0.1, 0.2], [np.nan, 0.3], [0.5, np.nan]])
    with pytest.raises(ValueError, match=f"{measure}: scores of 2 of 3 images are not numbers"):
        scoring.kept(measure, logits, np.array(targets))
