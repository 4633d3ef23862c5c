"""AdamW and its schedule, counted in samples seen (FLIP, Table 10)."""

import math

import torch
from torch import nn

from flip.schema import Train


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices decay; biases, LayerNorm gains, positions and the temperature do not."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim < 2 or "positions" in name
        (plain if exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.AdamW:
    groups = parameter_groups(model, train.weight_decay)
    return torch.optim.AdamW(groups, lr=train.peak_lr, betas=train.betas, eps=train.epsilon, fused=True)


def learning_rate(train: Train, seen: int, total: int) -> float:
    """Linear warm-up from 0, then a cosine to 0, after `seen` of `total` samples."""
    if seen < train.warmup_samples:
        return train.peak_lr * seen / train.warmup_samples
    progress = (seen - train.warmup_samples) / max(total - train.warmup_samples, 1)
    return train.peak_lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
