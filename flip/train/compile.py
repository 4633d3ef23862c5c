"""What the blocks of a model in training compute with: compiled functions, and products of eight-bit numbers.

Only blocks: they are nearly all of a step, all of a tower's are the same function, compiled once, and they are what
is split over processes and recomputed. Pictures keep their shape from step to step; the words of a batch do not, and
are compiled for any number.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import nn

from flip.config.schema import Train
from flip.config.sections.train import FLOAT8_NEEDS
from flip.model.transformer import Block

# A form of a block (dense or packed, all tokens or one, with gradients or without) is compiled by itself.
FORMS = 64
FLOAT8_SINCE = 8, 9  # compute capability of GPUs that multiply such numbers (Ada, Hopper)
MULTIPLE = 16  # of both sides of a matrix that they multiply


def prepare(model: nn.Module, train: Train, device) -> None:
    """Lets a model's blocks compute as `train.precision` and `train.compile` say; its weights, their names and what
    they compute, but for rounding, stay.

    Raises:
        ValueError: float8 without torchao.
    """
    if train.precision == "float8":
        multiply_in_float8(model, torch.device(device))
    if train.compile:
        compile_blocks(model, device)


def blocks(model: nn.Module) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]


def compile_blocks(model: nn.Module, device, backend: str = "inductor") -> None:
    """As one function each, without a way back into Python; says so, once, where nothing can be compiled."""
    try:
        torch.compile(F.gelu, backend=backend)(torch.zeros(MULTIPLE, device=device))
    except Exception as error:  # of a compiler, a driver, a file system: each has its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"train.compile: nothing can be compiled here ({reason}); training goes on without", stacklevel=2)
        return
    torch._dynamo.config.recompile_limit = FORMS
    for block in blocks(model):
        # What is called stays the module, whose hooks split weights over processes.
        block.forward = torch.compile(block.forward, fullgraph=True, backend=backend)


def multiply_in_float8(model: nn.Module, device: torch.device) -> None:
    """The blocks' linear layers: inputs, weights and gradients, scaled by their largest value, have eight bits
    (Micikevicius et al. 2022, arXiv 2209.05433), sums more. Where the device cannot, it is computed with that rounding.

    Raises:
        ValueError: torchao is missing.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except (ImportError, OSError) as error:
        raise ValueError(f"{FLOAT8_NEEDS} ({error})") from None
    emulate = device.type != "cuda" or torch.cuda.get_device_capability(device) < FLOAT8_SINCE
    if emulate:
        warnings.warn("train.precision: float8: the device has no such products; they are emulated", stacklevel=3)
    config = Float8LinearConfig(emulate=emulate, pad_inner_dim=True)  # a batch may have any number of words
    for block in blocks(model):
        convert_to_float8_training(block, config=config, module_filter_fn=lambda layer, _: fits(layer))


def fits(layer: nn.Linear) -> bool:
    return all(side % MULTIPLE == 0 for side in layer.weight.shape)
