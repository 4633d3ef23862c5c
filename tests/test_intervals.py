"""Intervals over training runs and test images: simulated reports whose truth is known, and hand-made numbers."""

import numpy as np
import pytest
from scipy import stats

from flip.report.bootstrap import Resampled
from flip.report.intervals import Estimate, Estimates, Spread, error, estimates, spread
from tests.simulated_reports import CASES, SIX, SimulatedReport

RNG = np.random.default_rng(3)


def draws(share, seeds=3, items=1500):
    return (RNG.random((seeds, items)) < share).astype(np.float32)


@pytest.mark.parametrize("spread", [0, 1.25, 3.4])
def test_intervals_hold_the_expectation_over_new_runs_and_new_images(spread):
    """As often as they say, of values and of differences."""
    for found in SimulatedReport(SIX, spread).coverage(150):
        assert 93 <= found <= 97


@pytest.mark.parametrize("name", [f"{rows}, spread 3.4" for rows in ("two rows", "rows at 5, 50, 95%")])
def test_few_rows_and_unlike_rows_are_covered_too(name):
    for found in CASES[name].coverage(200):
        assert 93 <= found <= 97


def test_one_seed_says_nothing_of_training_runs():
    """The interval over images alone, of one run of each, misses the expectation three times in four or more."""
    single = SimulatedReport(SIX, 3.4, seeds=1)
    assert single.coverage(60)[0] < 60
    found = single.estimated(0)
    assert found.single(("0", "m"))
    with pytest.raises(AssertionError, match="a single seed"):
        _ = found.difference(("1", "m"), ("0", "m")).p_value


def resampled(values, deviations):
    """Runs with values [seeds] whose resamples lie by the deviations [resamples, seeds] beside them."""
    values = np.array(values, float)
    return Resampled(values.mean(), values, values + np.array(deviations, float), 10**9)


def test_the_spread_is_a_mean_over_rows():
    """Seeds at 50 and 54: variance 8. Resamples move one seed by 1 and the other by -1: variance 2 of that."""
    opposite = [[1, -1], [-1, 1]]
    rows = [resampled([50, 54], opposite), resampled([20, 20], opposite)]
    assert spread(rows) == Spread(4.0, 2.0, 2)
    assert spread([*rows, resampled([7], [[0], [1]])]) == Spread(4.0, 2.0, 2), "a single seed tells nothing"
    third = resampled([1, 1, 1], [[1, 1, 1], [2, 2, 2]])  # counts for two: its seeds answer alike
    assert spread([*rows, third]) == Spread(2.0, 1.0, 4)


def test_the_error_adds_runs_to_images_and_counts_nothing_twice():
    """Images move all seeds alike by +-3: of four resamples that is a variance of 12. Seeds differ by 8."""
    run = resampled([50, 54], [[3 + 1, 3 - 1], [3 - 1, 3 + 1], [-3 + 1, -3 - 1], [-3 - 1, -3 + 1]])
    standard, freedom = error(run.mean, [run], Spread(8.0, 2.0, 1))
    assert standard**2 == pytest.approx(12 + (8 - 2) / 2)
    assert freedom == pytest.approx(15**2 / (8 / 2) ** 2)
    # Where seeds differ by what images explain, the bootstrap of images is all.
    assert error(run.mean, [run], Spread(2.0, 2.0, 1))[0] ** 2 == pytest.approx(12)
    # Where they happen to differ by half of it, half of the interaction's share, 2 / 2, is taken away.
    assert error(run.mean, [run], Spread(1.0, 2.0, 1))[0] ** 2 == pytest.approx(12 - 0.5)


def test_without_noise_of_images_the_interval_is_students():
    """Many images, or a training that no image decides: the two-sample t interval with pooled variance."""
    one, two = np.array([50.0, 53, 55]), np.array([40.0, 41, 45])
    tiny = 1e-3 * RNG.normal(size=(500, 3))
    runs = {("a", "m"): resampled(one, tiny), ("b", "m"): resampled(two, tiny)}
    found = Estimates(runs).difference(("a", "m"), ("b", "m"))
    theirs = stats.ttest_ind(one, two)
    assert found.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-3)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-2)


def test_two_metrics_of_the_same_runs_are_paired_by_seed():
    """Good runs are good at both: their difference is far surer than that of other runs."""
    skills = np.array([0.4, 0.5, 0.6])[:, None]
    outcomes = {
        (row, metric): (RNG.random((3, 1500)) < skills - less).astype(np.float32)
        for row in "ab"
        for metric, less in (("m", 0), ("m-masked", 0.1))
    }
    found = estimates(outcomes, "set", 400)
    same = found.difference(("a", "m-masked"), ("a", "m"))
    other = found.difference(("b", "m"), ("a", "m"))
    assert same.value == pytest.approx(-10, abs=2)
    assert np.diff(same.interval(0.95)) < np.diff(other.interval(0.95)) / 4


def test_no_interval_leaves_what_is_possible():
    found = estimates({("a", "m"): draws(0.01, items=50), ("b", "m"): draws(0.99, items=50)}, "set", 200)
    for key in found:
        low, high = found[key].interval(0.999)
        assert 0 <= low <= found[key].value <= high <= 100
    low, high = found.difference(("b", "m"), ("a", "m")).interval(0.9999999)
    assert -100 <= low <= high <= 100


def test_a_score_that_is_no_percentage_may_exceed_100():
    """CIDEr, in hundredths."""
    low, high = estimates({("a", "m"): 1.2 + draws(0.5)}, "set", 200)["a", "m"].interval(0.95)
    assert 100 < low < 170 < high


def test_a_p_value_is_below_the_level_where_the_interval_leaves_out_0():
    for value in (1.0, 1.9, 2.1, 3.0, -4.0):
        found = Estimate(value, np.zeros(1), 1.0, 7.5)
        low, high = found.interval(0.95)
        assert (found.p_value < 0.05) == (not low <= 0 <= high)
    assert Estimate(0.0, np.zeros(1), 0.0).p_value == 1
    assert Estimate(1.0, np.zeros(1), 0.0).p_value == 0


def test_resamples_of_several_seeds_are_as_wide_as_the_interval():
    """So what is computed from them (laws, speed-ups) knows of the seeds, too."""
    outcomes = {(row, "m"): np.concatenate([draws(share, 1) for share in (0.45, 0.5, 0.55)]) for row in "abcdef"}
    found = estimates(outcomes, "set", 4000)
    for one in found.values():
        low, high = one.interval(0.95)
        assert np.diff(np.quantile(one.resampled, [0.025, 0.975])) == pytest.approx(high - low, rel=0.15)
