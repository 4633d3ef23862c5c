"""Define schedules that take as long as another variant's: `train.equal_time`.

    variants: {flip-50-equal-time: {like: flip-50, train: {equal_time: clip}}}

`snakemake sweep` times the steps of both, in turns, and writes chosen/<scale>/times/<variant>.json. From then on the
variant's epochs and warm-up are the other's, over the ratio of their times per sample.
"""

import statistics
from typing import TYPE_CHECKING

from pydantic import Field

from flip.config.sections.types import Name, Positive, Section

if TYPE_CHECKING:
    from flip.config.sections.train import Train
    from flip.config.sweep import Values

DIGITS = 4  # of what is computed: 0.05 % at most are lost


class StepTime(Section):
    """Hold how long a variant's step takes: the content of chosen/<scale>/times/<variant>.json."""

    of: Name = Field(description="the variant that it is compared with")
    relative_rounds: list[Positive] = Field(description="time per sample over the other's, by round", min_length=1)
    device: str
    threads: int = Field(gt=0)
    recipe: str = Field(description="hash of what a step of the two depends on")

    @property
    def ratio(self) -> float:
        return statistics.median(self.relative_rounds)


def schedule(own: "Train", reference: "Train", ratio: float) -> "Values":
    """Return the parameters with which a variant trains for as long as the reference, by dotted keys.

    Args:
        own: what the variant trains with.
        reference: what the other trains with.
        ratio: the variant's time per sample over the other's.
    """
    epochs = reference.total_epochs * reference.data_share / own.data_share / ratio
    found = {"train.epochs_scale": epochs / own.epochs}
    if own.warmup_samples:
        found["train.warmup_scale"] = reference.warmup / ratio / own.warmup_samples
    return {key: float(f"{value:.{DIGITS}g}") for key, value in found.items() if value}
