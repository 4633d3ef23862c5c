"""The intervals hold what they promise: coverage, pairing, seeds, determinism, speed."""

import time
from operator import sub

import numpy as np
import pytest

from flip.report.bootstrap import generator, resampled
from flip.report.intervals import Estimate, both, estimates

RNG = np.random.default_rng(1)


def draws(share, items, seeds=1):
    return (RNG.random((seeds, items)) < share).astype(np.float32)


def test_a_value_is_the_share_of_right_items_in_percent():
    found = estimates({("v", "m"): np.array([[1, 0, 0, 1, 1]], np.float32)}, "set", 50)["v", "m"]
    assert found.value == pytest.approx(60)
    assert found.resampled.shape == (50,)
    # A resample of five items has 0 to 5 right ones.
    np.testing.assert_allclose(found.resampled / 20, (found.resampled / 20).round(), atol=1e-9)


def test_intervals_cover_the_true_share_as_often_as_they_say():
    outcomes = [draws(0.4, 300) for _ in range(300)]
    intervals = [
        estimates({("v", "m"): one}, f"set {i}", 400)["v", "m"].interval(0.9) for i, one in enumerate(outcomes)
    ]
    covered = np.mean([low <= 40 <= high for low, high in intervals])
    assert 0.85 < covered < 0.95


def test_interval_width_is_that_of_the_binomial():
    share = 0.3
    values = np.zeros((1, 2000), np.float32)
    values[0, : int(2000 * share)] = 1
    low, high = estimates({("v", "m"): values}, "set", 4000)["v", "m"].interval(0.95)
    assert high - low == pytest.approx(2 * 1.96 * 100 * np.sqrt(share * (1 - share) / 2000), rel=0.06)


def test_a_paired_difference_of_alike_models_is_narrower_than_an_unpaired_one():
    first = draws(0.5, 1500)
    second = first.copy()
    second[0, :30] = 1
    found = estimates({("a", "m"): first, ("b", "m"): second}, "set", 1000)
    other = estimates({("b", "m"): second}, "another draw", 1000)["b", "m"]
    paired, unpaired = found.difference(("b", "m"), ("a", "m")), both(sub, other, found["a", "m"])
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(100 * (30 - first[0, :30].sum()) / 1500)
    assert np.diff(paired.interval(0.95)) < np.diff(unpaired.interval(0.95)) / 4


def test_a_model_does_not_differ_from_itself():
    found = estimates({("a", "m"): draws(0.5, 200, seeds=3)}, "set", 100)
    assert found.difference(("a", "m"), ("a", "m")).interval(0.95) == (0, 0)


def test_seeds_that_disagree_widen_the_interval():
    alike = np.repeat(draws(0.5, 1500), 3, axis=0)
    apart = np.concatenate([draws(share, 1500) for share in (0.4, 0.5, 0.6)])
    found = estimates({("v", "alike"): alike, ("v", "apart"): apart}, "set", 1000)
    single = estimates({("v", "alike"): alike[:1]}, "set", 1000)["v", "alike"].interval(0.95)
    assert found["v", "alike"].interval(0.95) == pytest.approx(single, abs=0.25)
    assert np.diff(found["v", "apart"].interval(0.95)) > 2 * np.diff(single)


def test_the_same_names_give_the_same_resamples_in_any_company():
    one, two = draws(0.5, 300, seeds=2), draws(0.5, 300, seeds=2)
    alone = resampled({("a", "m"): one}, "set", 200)["a", "m"]
    together = resampled({("b", "m"): two, ("a", "m"): one}, "set", 200)["a", "m"]
    np.testing.assert_allclose(alone.resamples, together.resamples)
    assert generator("x").integers(1 << 60) == generator("x").integers(1 << 60) != generator("y").integers(1 << 60)


def test_blocks_do_not_change_the_resamples(monkeypatch):
    values = {("a", "m"): draws(0.5, 300)}
    whole = estimates(values, "set", 100)["a", "m"].resampled
    monkeypatch.setattr("flip.report.bootstrap.BLOCK", 300 * 7)
    np.testing.assert_allclose(estimates(values, "set", 100)["a", "m"].resampled, whole)


def test_a_page_of_cells_takes_about_a_second():
    outcomes = {(f"v{i}", "m"): draws(0.5, 1500) for i in range(50)}
    start = time.perf_counter()
    estimates(outcomes, "set", 2000)
    assert time.perf_counter() - start < 5


def test_percentiles_are_those_of_the_resamples():
    assert Estimate(50, np.arange(101.0)).interval(0.9) == pytest.approx((5, 95))
