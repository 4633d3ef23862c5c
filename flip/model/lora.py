"""Tune a trained model by low-rank additions to the matrices of its blocks (LoRA, Hu et al. 2021, arXiv 2106.09685).

Each linear layer's weight W [out, in] becomes W + alpha / rank * up [out, rank] @ down [rank, in], of which `up` begins
at 0; W and all else stay as they are. When training has ended, the sums are the weights: nothing reads an addition.

These are torch's parametrizations and not modules of peft: attention reads its weights by themselves where one token of
a caption is all that is asked for, and a wrapper that adds in its forward pass would be left out there.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from flip.config.sections.train import Lora
from flip.model.transformer import Block

WEIGHT = "weight"
ORIGINAL = f"parametrizations.{WEIGHT}.original"


class LowRank(nn.Module):
    """Add a product of two small matrices to a weight [out, in]."""

    def __init__(self, weight: Tensor, lora: Lora):
        super().__init__()
        self.scale = lora.scale
        self.up = nn.Parameter(weight.new_zeros(len(weight), lora.rank))
        self.down = nn.Parameter(weight.new_empty(lora.rank, weight.shape[1]))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as nn.Linear's own weights (the paper's code)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.up @ self.down


def adapt(model: nn.Module, lora: Lora, seed: int) -> None:
    """Add low-rank additions to all linear layers of a model's blocks; nothing else takes a gradient any more.

    They are the same for the same seed.
    """
    model.requires_grad_(False)
    linear = [one for block in model.modules() if isinstance(block, Block) for one in block.modules()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for one in linear:
            if isinstance(one, nn.Linear):
                parametrize.register_parametrization(one, WEIGHT, LowRank(one.weight, lora))


def merged(state: dict[str, Tensor], lora: Lora | None) -> dict[str, Tensor]:
    """Return the weights of a model by name, with what was added to each in it: those of a model without additions."""
    if lora is None:
        return state
    found = {name: tensor for name, tensor in state.items() if ".parametrizations." not in name}
    for name, weight in state.items():
        if name.endswith(ORIGINAL):
            up, down = (state[name.replace("original", f"0.{side}")] for side in ("up", "down"))
            found[name.removesuffix(ORIGINAL) + WEIGHT] = weight + lora.scale * up @ down
    return found
