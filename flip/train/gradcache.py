"""Compute a step in micro-batches, with the gradients of the global batch (GradCache: Gao et al. 2021,
arXiv:2101.06983).

A contrastive loss needs the features of all pairs, so it is no mean over micro-batches. First all features are computed
without a graph; the losses give the gradient of each feature; then each micro-batch is run again, with a graph, and
passes its features' gradients on. One micro-batch's activations are held at a time, at the cost of one more forward.
Masks follow from a sample's position, so both forwards see the same patches and tokens.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from flip.config.schema import Params
from flip.data.batch_types import Batch
from flip.losses import Objective, Scope, named_losses
from flip.model.simclr import WEIGHT
from flip.train.parallel import DDPModel, FSDPModel


class SplitRun(Protocol):
    """Describe what is read of a run (flip.train.step.TrainingRun)."""

    params: Params
    parallel: DDPModel | FSDPModel

    def outputs(self, batch: Batch, features_only: bool = False) -> Batch: ...
    def readers(self, batch: Batch) -> list[Objective]: ...


def split(batch: Batch, size: int) -> list[Batch]:
    """Split a batch into micro-batches of `size` pairs; the last one may be smaller."""
    return [
        {name: rows[begin : begin + size] for name, rows in batch.items()}
        for begin in range(0, len(batch["positions"]), size)
    ]


def is_shared(name: str, output: Tensor) -> bool:
    """Tell whether an output is the same for all micro-batches: a scalar, or a weight that a loss over the global batch
    applies."""
    return not output.ndim or name.startswith(WEIGHT)


@torch.no_grad()
def embed(forward: Callable, parts: list[Batch]) -> dict[str, Tensor]:
    """Compute what objectives over the global batch need, as leaves: features [pairs, ...], scalars and weights."""
    outputs = [forward(part, features_only=True) for part in parts]
    joined = {
        name: x if is_shared(name, x) else torch.cat([one[name] for one in outputs]) for name, x in outputs[0].items()
    }
    return {name: tensor.requires_grad_() for name, tensor in joined.items()}


def pass_on(leaves: dict[str, Tensor], outputs: dict[str, Tensor], begin: int, share: float) -> Tensor | int:
    """Return a scalar whose gradient with respect to a micro-batch's outputs is the gradient of its leaves.

    `begin` is the micro-batch's first row of the leaves. What is the same for all micro-batches, such as the logit
    scale, has a `share` of its gradient passed on by each.
    """
    total: Tensor | int = 0
    for name, leaf in leaves.items():
        if leaf.grad is None:  # no loss reads it
            continue
        shared = is_shared(name, leaf)
        gradient = share * leaf.grad if shared else leaf.grad[begin : begin + len(outputs[name])]
        total = total + (outputs[name] * gradient).sum()
    return total


def backward_in_parts(run: SplitRun, batch: Batch, size: int) -> dict[str, Tensor]:
    """Add the gradients of a batch's losses to the parameters, `size` pairs at a time; return the detached losses by
    name.

    `run.outputs(part, features_only)` computes what `run.objectives`, or those over the global batch among them, read;
    `run.parallel.exchange(last)` says in which backward pass gradients are reduced over processes.
    """
    parts, pairs = split(batch, size), run.params.train.global_batch
    leaves, losses, chosen = {}, {}, run.readers(batch)
    if over_batch := [one for one in chosen if one.scope is Scope.GLOBAL_BATCH]:
        leaves = embed(run.outputs, parts)
        losses = named_losses(over_batch, batch, leaves)
        sum(losses.values()).backward()
    separate, begin = [one for one in chosen if one.scope is Scope.SAMPLE], 0
    for part in parts:
        with run.parallel.exchange(last=part is parts[-1]):
            outputs = run.outputs(part)
            means = named_losses(separate, part, outputs, len(part["positions"]) / pairs)
            share = len(part["positions"]) / len(batch["positions"])
            (sum(means.values()) + pass_on(leaves, outputs, begin, share)).backward()
        losses |= {name: losses.get(name, 0) + loss.detach() for name, loss in means.items()}
        begin += len(part["positions"])
    return {name: loss.detach() for name, loss in losses.items()}
