"""Read the papers' values, and tell how far sampling and rounding may have moved them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from scipy.special import ndtri

from flip.metrics.measures import ACCURACY
from flip.metrics.names import Metric

PAPER = Path(__file__).with_name("paper.yaml")


def read_paper() -> dict:
    return yaml.safe_load(PAPER.read_text())


def beside(paper: dict, metric: Metric) -> Metric:
    """Return the metric of a paper that stands beside one of ours."""
    return replace(metric, set=paper["beside"].get(metric.set, metric.set))


def printed(paper: dict, table: str, metrics: list[Metric]) -> dict[str, dict[str, float]]:
    """Return the paper's values of a table, variant -> metric or cost -> value: each also by the name of the metric of
    ours that it stands beside."""
    theirs = {str(one): str(beside(paper, one)) for one in metrics}
    return {
        variant: row | {ours: row[other] for ours, other in theirs.items() if other in row}
        for variant, row in paper["tables"].get(table, {}).items()
    }


def tested(paper: dict, metric: Metric, sets: Mapping[str, dict]) -> int | None:
    """Return of how many images, or captions whose image is looked for, the paper's value is the accuracy; None where
    paper.yaml does not say, or the metric is no accuracy."""
    if metric.measure(sets) != ACCURACY:
        return None
    finds_images = metric.task == "image" and metric.score != ACCURACY
    return paper["captions" if finds_images else "images"].get(beside(paper, metric).set)


def noise(values: Sequence[tuple[float, int | None]], digits: int, confidence: float) -> float:
    """Return how far the difference of two printed percentages may be from the truth, in percentage points.

    Each (value, how many were tested) has a binomial standard error, as if the two models had answered other images,
    which is an upper bound; where the number is unknown, it has none. Each is rounded to so many digits.
    """
    variance = sum(value * (100 - value) / count for value, count in values if count)
    return float(ndtri((1 + confidence) / 2)) * variance**0.5 + 10.0**-digits
