"""Say what one process's training step costs, FLOPs and bytes, from what flip.plan.counting counts of it.

The paper's relative FLOPs of 1.00 / 0.52 / 0.28 (Table 1a) are those of both towers with all text slots (its text tower
is "4.4 %" of the image tower) and of a class token beside the patches, as its released code has; without one they are
1.00 / 0.51 / 0.28.
"""

from dataclasses import dataclass, replace

from flip.config.schema import Params
from flip.plan.counts import Counted, Encoding, PartCost, Weights, remembered
from flip.train.work import Work, changed, in_parts, turns

FULL = 4  # bytes of a float32
ADAM = 2  # moments per weight


@dataclass(frozen=True)
class Memory:
    """Hold the bytes of a process.

    state: weights and moments; batch: images and ids of the whole step; step: activations, features, gradients and the
    losses where they are largest together.
    """

    state: float
    batch: float
    step: float

    @property
    def peak(self) -> float:
        return self.state + self.batch + self.step


def weights(params: Params) -> Weights:
    """Return how many numbers a variant's model has, and trains."""
    return remembered("count_weights", Weights, params)


def encoding(params: Params) -> Encoding:
    """Return FLOPs of encoding one image and one caption, unmasked, as evaluation does."""
    return remembered("count_encoding", Encoding, params)


def counted(params: Params, work: Work, device: str = "cuda") -> Counted:
    """Return the counts of a step on `params`, one of the batch types of `work`.

    Raises:
        Uncounted: the step reads values.
    """
    how = work.part, work.pairs, work.processes, device, work.whole
    return remembered("count_step", Counted, params, *how)


def step_flops(work: Work) -> float:
    """Return FLOPs of one process's step; the mean over steps, where several types of batch take turns.

    Raises:
        Uncounted: the step reads values.
    """
    return sum(share * _flops(params, work) for share, params in turns(work.params))


def _flops(params: Params, work: Work) -> float:
    """Return FLOPs of a step, which parts of any size add up to: but for the one query of attention pooling, which each
    part projects for itself."""
    found = counted(params, in_parts(work, None))
    again = 0 if work.whole else remembered("count_again", PartCost, params, work.pairs).flops
    return found.part_flops + found.loss_flops + again


def model_flops(work: Work) -> float:
    """Return FLOPs that a step needs where nothing of the model is computed twice to hold less."""
    plain = replace(work, params=changed(work.params, "train", checkpoint_activations=False))
    return step_flops(in_parts(plain, None))


def memory(work: Work, device: str = "cuda") -> Memory:
    """Return the largest moment of a step, from the second one on; on a CPU, whose blocks see parts of the batch, no
    less.

    Raises:
        Uncounted: the step reads values.
    """
    every = [counted(params, work, device) for _, params in turns(work.params)]
    numbers = weights(work.params)
    gradients = FULL * numbers.trained if work.processes > 1 or not work.whole else 0
    state = FULL * (numbers.total + ADAM * numbers.trained)
    return Memory(state, max(one.batch for one in every), gradients + max(_bytes(one, work) for one in every))


def _bytes(found: Counted, work: Work) -> int:
    """Return the bytes of a step at most: while losses are computed over what is kept, or while the model goes back; in
    parts, over the features of all of them, and their gradients."""
    if work.whole:
        return max(found.kept + found.loss, found.part)
    return found.features + max(found.loss, found.part + found.features)
