"""Compute what SimCLR's loss reads (Chen et al. 2020; SLIP, Mu et al. 2021).

That is the image tower's features of two views of each image, and the weights of a projection head, which the loss
applies to the views of the global batch.

The head has BatchNorm, whose statistics are those of all pairs of a step. They are known only when all are encoded, on
all processes and from all micro-batches: so this module returns the head's weights as outputs, beside the features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flip.config.objectives.simclr import SimCLR
from flip.model.towers import Towers
from flip.model.transformer import full_precision

WEIGHT = "weight of "  # names of outputs that are no rows of the batch, but weights


def no_gather(rows: Tensor) -> Tensor:
    """Return the rows [rows, ...] of a single process, as there are no others to gather."""
    return rows


class BatchNorm(nn.Module):
    """Normalise over the first dimension of [pairs, ..., width] with the statistics of all processes' pairs
    (BatchNorm).

    `gather` is a differentiable all-gather of rows; each process holds as many pairs. There are no running statistics,
    as the head serves training alone.
    """

    def __init__(self, width: int, gather: Callable[[Tensor], Tensor] = no_gather, epsilon: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.gather, self.epsilon = gather, epsilon

    def forward(self, x: Tensor) -> Tensor:
        own = torch.stack([x.mean(0), x.var(0, unbiased=False)])
        means, variances = self.gather(own[None]).unbind(1)  # [processes, ..., width]
        variance = variances.mean(0) + means.var(0, unbiased=False)
        return (x - means.mean(0)) * (variance + self.epsilon).rsqrt() * self.weight + self.bias


class ProjectionHead(nn.Sequential):
    """Project [pairs, views, width] -> [pairs, views, out] by SLIP's MLP: BatchNorm and ReLU after each hidden layer.

    Each view is normalised by itself, as in the released code. Layers before a BatchNorm have no biases: it would
    cancel them.
    """

    def __init__(self, width: int, head: SimCLR, gather: Callable[[Tensor], Tensor] = no_gather):
        layers = []
        for inward in (width, head.hidden):
            layers += [nn.Linear(inward, head.hidden, bias=False), BatchNorm(head.hidden, gather), nn.ReLU()]
        super().__init__(*layers, nn.Linear(head.hidden, head.width))


class EncodedViews(nn.Module):
    """Compute `views` [batch, 2, width], pooled and before the projection into the common space, and the head's
    weights."""

    def __init__(self, width: int, head: SimCLR):
        super().__init__()
        self.head = ProjectionHead(width, head)

    def forward(self, towers: Towers, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        views = batch["views"]
        pooled = towers.vision.feature(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        # No parameters themselves: what is an output may become a leaf of its own.
        weights = {WEIGHT + name: weight.clone() for name, weight in self.head.named_parameters()}
        return {"views": full_precision(pooled)} | weights
