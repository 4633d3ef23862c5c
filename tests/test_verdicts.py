"""Verdicts beside a paper: hand-made intervals, the paper's noise, Holm's correction, and how often reports in which
nothing differs claim that something does."""

import numpy as np
import pytest

from flip.config.resolve import read_project
from flip.metrics.names import Metric
from flip.report import paper as printed
from flip.report.intervals import Estimate
from flip.report.paper import noise, read_paper
from flip.report.verdicts import CONTRADICTED, DEFINITIONS, ONE_RUN, OTHER_SIZE, REPRODUCED, UNDECIDED, Contrast, holm
from tests.simulated_reports import SimulatedReport

METRIC = Metric("imagenet1k")


def contrast(value, error=1.0, paper=1.0, one_run=False):
    """A difference with a 95% interval of +-1.96 errors, beside a paper's with +-0.7."""
    return Contrast(("clip", METRIC), Estimate(value, np.zeros(1), error), one_run, paper, 0.7)


@pytest.mark.parametrize(
    ("value", "paper", "significant", "verdict"),
    [
        (1, 1, False, REPRODUCED),
        (3.6, 1, True, REPRODUCED),  # 1.64 to 5.56 meets 0.3 to 1.7
        (3.7, 1, True, OTHER_SIZE),  # from 1.74
        (3.7, 1, False, UNDECIDED),  # Holm does not hold it different from 0
        (-20.7, -0.4, True, OTHER_SIZE),
        (-20.7, 0.4, True, CONTRADICTED),
        (-20.7, 0.0, True, CONTRADICTED),
        (0, 5, False, UNDECIDED),  # precise, and not the paper's
    ],
)
def test_a_verdict_is_by_both_intervals_and_the_sign(value, paper, significant, verdict):
    assert contrast(value, paper=paper).verdict(0.95, significant) == verdict


def test_one_run_decides_nothing_and_no_paper_asks_nothing():
    assert contrast(-20.7, one_run=True).verdict(0.95, False) == ONE_RUN
    assert Contrast(("clip", METRIC), Estimate(3, np.zeros(1), 1.0), False, None, None).verdict(0.95, False) is None
    assert len(DEFINITIONS) == 5


def test_holm_compares_the_smallest_with_a_share_of_the_level():
    """0.05 / 4 = 0.0125, / 3 = 0.0167, / 2 = 0.025: the third fails, and with it the fourth."""
    assert holm({"a": 0.03, "b": 0.0125, "c": 0.016, "d": 0.026}, 0.05) == {"b", "c"}
    assert holm({"a": 0.05}, 0.05) == {"a"}
    assert holm({"a": 0.013, "b": 0.013, "c": 0.013, "d": 0.013}, 0.05) == set()
    assert holm({}, 0.05) == set()


def test_noise_of_the_paper_is_binomial_and_rounding():
    """Two accuracies of 69% on 50,000 images: 1.96 x sqrt(2 x 0.69 x 0.31 / 50,000) = 0.573 points, and 0.1."""
    assert noise([(69.0, 50000), (69.0, 50000)], 1, 0.95) == pytest.approx(0.573 + 0.1, abs=1e-3)
    assert noise([(120.3, None), (69.0, None)], 1, 0.95) == pytest.approx(0.1)
    assert noise([(60.56, None), (63.16, None)], 2, 0.95) == pytest.approx(0.01)


def test_sizes_are_those_of_the_papers_sets():
    paper = read_paper()
    sets = {name: {} for name in ("fine", "retrieval", "flickr30k", "caption", "imagenet1k")}
    found = {
        str(metric): printed.tested(paper, metric, sets)
        for metric in (
            Metric("fine"), Metric("fine", "masked"), Metric("imagenet1k", "probe"), Metric("retrieval", "image", "r1"),
            Metric("flickr30k", "text", "r5"), Metric("caption", "", "cider"),
        )
    }  # fmt: skip
    assert found == {
        "fine": 50000, "fine-masked": 50000, "imagenet1k-probe": 50000, "retrieval-image-r1": 5000,
        "flickr30k-text-r5": 1000, "caption-cider": None,
    }  # fmt: skip
    assert printed.tested(paper, Metric("fine"), {"fine": {"measure": "mean-per-class"}}) is None


def test_sizes_and_digits_are_of_sets_and_tables_that_there_are():
    paper, project = read_paper(), read_project("params.yaml", "cc12m")
    shown = {str(metric) for name in project.tables for metric in project.metrics(name)}
    printed = {metric for rows in paper["tables"].values() for row in rows.values() for metric in row} | shown
    for name in paper["images"] | paper["captions"]:
        assert any(metric == name or metric.startswith(f"{name}-") for metric in printed), name
    assert paper["digits"].keys() <= paper["tables"].keys()


def claims(report, number, papers):
    """The verdicts of a report's rows, each against the first one's."""
    found = report.estimated(number)
    first, *rows = found
    contrasts = {
        row: Contrast(first, found.difference(row, first), False, paper, 0.7)
        for row, paper in zip(rows, papers, strict=True)
    }
    significant = holm({row: one.difference.p_value for row, one in contrasts.items()}, 0.05)
    return {one.verdict(0.95, row in significant) for row, one in contrasts.items()}


@pytest.mark.parametrize("spread", [0, 3.4])
def test_reports_in_which_nothing_differs_seldom_claim_that_something_does(spread):
    """In at most 5% of reports, whatever the paper says: 300 reports of 8 rows, so 5 +- 2.5."""
    report, papers = SimulatedReport((0.5,) * 8, spread), [20, -20, 5, -5, 2, -2, 40]
    wrong = [bool(claims(report, number, papers) & {OTHER_SIZE, CONTRADICTED}) for number in range(300)]
    assert np.mean(wrong) <= 0.05 + 0.025


def test_a_large_difference_is_found():
    report = SimulatedReport((0.5, 0.25, 0.75), 1.0)
    for number in range(5):
        assert claims(report, number, [-5, -5]) == {OTHER_SIZE, CONTRADICTED}
