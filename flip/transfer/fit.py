"""Train heads: AdamW over a given number of steps, with linear warm-up and cosine decay."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flip.config.sections.transfer import Schedule
from flip.train.optimizer import parameter_groups


def learning_rate(schedule: Schedule, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    warmup = schedule.warmup * schedule.steps
    if step < warmup:
        return schedule.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(schedule.steps - warmup, 1)
    return schedule.lr * 0.5 * (1 + math.cos(math.pi * progress))


def batches(items: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield the indices [size] of each step's items without end: epochs of random permutations."""
    generator, left = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(items, generator=generator)])
        yield left[:size]
        left = left[size:]


def fit(
    head: nn.Module,
    loss: Callable[[Tensor], Tensor],
    items: int,
    schedule: Schedule,
    seed: int,
    groups: list[dict[str, Any]] | None = None,
) -> None:
    """Train a head in place; `loss` maps indices of items to their loss.

    `groups` of parameters, for AdamW, may have their own weight decay and a factor `lr_scale` of the learning rate.

    Raises:
        ValueError: weights are not finite at the end.
    """
    optimizer = torch.optim.AdamW(groups or parameter_groups(head, schedule.weight_decay), lr=schedule.lr)
    head.train()
    steps = tqdm(range(schedule.steps), desc=type(head).__name__, unit="step", mininterval=10, disable=None)
    for step, rows in zip(steps, batches(items, schedule.batch, seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = group["lr_scale"] * learning_rate(schedule, step)
        optimizer.zero_grad()
        loss(rows).backward()
        optimizer.step()
    if not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise ValueError(
            f"{type(head).__name__}: weights are not finite after {schedule.steps} steps; lower its lr = {schedule.lr} "
            "in transfer"
        )
    head.eval()
