"""Say of the rows of a table whose schedule takes another variant's time how long they took, as the report measured."""

import numpy as np

from flip.provenance.specs import is_timed
from flip.report.costs import cost
from flip.report.results import Results

TOLERANCE = 0.03  # of the other's time


def equal_times(results: Results, variants: list[str]) -> list[str]:
    """Return notes of a table: rows within the tolerance, rows beyond it, rows whose schedule was not computed."""
    project = results.project
    taken = {name: project.variants[name].train.equal_time for name in variants}
    untimed = [name for name, other in taken.items() if other and not is_timed(project, name)]
    rounds = {
        name: cost(name, results).total_time / cost(other, results).total_time
        for name, other in taken.items()
        if other in results.runs and name not in untimed
    }
    close = {name: one for name, one in rounds.items() if abs(np.median(one) - 1) <= TOLERANCE}
    far = {name: one for name, one in rounds.items() if name not in close}
    found = []
    if close:
        found.append(f"Epochs computed for equal training time, which holds within {TOLERANCE:.0%}: {_times(close)}.")
    if far:
        found.append(
            f"Epochs computed for equal training time, but measured more than {TOLERANCE:.0%} off here: {_times(far)}."
        )
    if untimed:
        found.append(f"Epochs as params.yaml has them, as their steps were not timed: {', '.join(untimed)}.")
    return found


def _times(rounds: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {np.median(one):.3f}x [{one.min():.2f}, {one.max():.2f}]" for name, one in rounds.items())
