"""Build AdamW and its learning-rate schedule, counted in samples seen (FLIP, Table 10)."""

import math

import torch
from torch import nn

from flip.config.schema import Train


def parameter_groups(
    model: nn.Module, weight_decay: float, trained: nn.Module | None = None, lr_scale: float = 1.0
) -> list[dict]:
    """Group the parameters by weight decay and learning rate; those that need no gradient are left out.

    Matrices decay; biases, LayerNorm gains, positions and the temperature do not. A part of the model that was
    `trained` before does not decay either, and learns at `lr_scale` times the rate (SigLIP, section 4.5).
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    before = set() if trained is None else set(trained.parameters())
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim < 2 or "positions" in name
        group = slow if parameter in before else plain if exempt else decayed
        if parameter.requires_grad:
            group.append(parameter)
    groups = [(decayed, weight_decay, 1.0), (plain, 0.0, 1.0), (slow, 0.0, lr_scale)]
    return [{"params": some, "weight_decay": decay, "lr_scale": scale} for some, decay, scale in groups if some]


def build_optimizer(
    model: nn.Module, train: Train, trained: nn.Module | None = None, lr_scale: float = 1.0
) -> torch.optim.AdamW:
    """Build AdamW with moments for all parameters.

    AdamW itself makes them at a parameter's first gradient; a checkpoint may come before that, when steps differ in
    which parameters they use.
    """
    groups = parameter_groups(model, train.weight_decay, trained, lr_scale)
    optimizer = torch.optim.AdamW(groups, lr=train.peak_lr, betas=train.betas, eps=train.epsilon, fused=True)
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        zeros = (torch.zeros_like(parameter, memory_format=torch.preserve_format) for _ in range(2))
        optimizer.state[parameter] = dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True))
        optimizer.state[parameter]["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
    return optimizer


def learning_rate(train: Train, seen: int, total: int) -> float:
    """Compute the learning rate after `seen` of `total` samples: linear warm-up from 0, then a cosine to 0."""
    if seen < train.warmup:
        return train.peak_lr * seen / train.warmup
    progress = (seen - train.warmup) / max(total - train.warmup, 1)
    return train.peak_lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
