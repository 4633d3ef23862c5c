"""Say how a model in training computes: the precision of products, the same bits each time or not, compiled or not.

Only blocks are compiled, or multiply in float8: they are nearly all of a step, all of a tower's are the same function,
compiled once, and they are what is sharded over processes and recomputed. Images keep their shape from step to step;
the number of tokens of a batch changes, and is compiled as dynamic.
"""

import os
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from flip.config.schema import Train
from flip.config.sections.train import FLOAT8_NEEDS
from flip.model.decoder import DecoderBlock
from flip.model.transformer import Block

# A form of a block (dense or packed, all tokens or one, with gradients or without) is compiled by itself.
FORMS = 64
FLOAT8_SINCE = 8, 9  # compute capability of GPUs that multiply such numbers (Ada, Hopper)
MULTIPLE = 16  # of both sides of a matrix that they multiply


def prepare(model: nn.Module, train: Train, device: str | torch.device) -> None:
    """Change a model's blocks, and how torch computes, as `train` says.

    Its weights and their names stay, and so does what it computes, up to rounding.

    Raises:
        ValueError: float8 without torchao.
    """
    # Losses' products, too, as open_clip's training does.
    torch.backends.cuda.matmul.allow_tf32 = train.precision == "tf32"
    repeat_bits(train.deterministic)
    if train.precision == "float8":
        multiply_in_float8(model, torch.device(device))
    if train.compile:
        compile_blocks(model, device)


def repeat_bits(wanted: bool) -> None:
    """Let GPUs compute the same bits each time, or what is fastest: sums in the order in which they are ready.

    Attention's gradients, sums by index and cuBLAS then take other algorithms (torch's notes on reproducibility).
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it


def blocks(model: nn.Module) -> list[Block | DecoderBlock]:
    """List the transformer blocks of a model."""
    return [module for module in model.modules() if isinstance(module, Block | DecoderBlock)]


def compile_blocks(model: nn.Module, device: str | torch.device, backend: str = "inductor") -> None:
    """Compile each block as one function, without graph breaks; warn, once, where nothing can be compiled."""
    try:
        torch.compile(F.gelu, backend=backend)(torch.zeros(MULTIPLE, device=device))
    except Exception as error:  # of a compiler, a driver, a file system: each has its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"train.compile: nothing can be compiled here ({reason}); training goes on without", stacklevel=2)
        return
    torch._dynamo.config.recompile_limit = FORMS
    # Or functions would be cut where DDP sends gradients: that overlaps with the other blocks as it is.
    torch._dynamo.config.optimize_ddp = False
    for block in blocks(model):
        # What is called stays the module, whose hooks split weights over processes.
        block.forward = torch.compile(block.forward, fullgraph=True, backend=backend)  # type: ignore[method-assign]


def multiply_in_float8(model: nn.Module, device: torch.device) -> None:
    """Convert the blocks' linear layers to float8 products (Micikevicius et al. 2022, arXiv 2209.05433).

    Inputs, weights and gradients are scaled by their largest value and have eight bits; sums have more. Where the
    device has no such products, they are emulated with the same rounding.

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
    """Tell whether both sides of a layer's matrix are multiples of what float8 products need."""
    return all(side % MULTIPLE == 0 for side in layer.weight.shape)
