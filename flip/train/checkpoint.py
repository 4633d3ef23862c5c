"""Checkpoints of a run in progress, and the weights of a finished one."""

import io
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from flip.files import atomic, write_atomic

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict) -> None:
    """Replaces the previous checkpoint at once, so that a kill at any moment leaves one of the two whole."""
    with atomic(Path(folder) / NAME) as file:
        torch.save(state, file)


def load_checkpoint(folder: Path, device) -> dict | None:
    """The newest checkpoint, or None."""
    path = Path(folder) / NAME
    if not path.exists():
        return None
    return torch.load(io.BytesIO(path.read_bytes()), map_location=device, weights_only=True)


def save_weights(path, model: nn.Module) -> None:
    """Weights as safetensors."""
    write_atomic(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}))


def load_weights(path, model: nn.Module, strict: bool = True) -> None:
    """Copies the weights at `path` into `model`; with `strict` off, surplus ones (a decoder) are ignored.

    Raises:
        ValueError: a file cut short, a missing weight, or one of another shape.
    """
    try:
        stored = load(Path(path).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); delete it and train again") from None
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in stored:
            raise ValueError(f"{path}: no weight '{name}'; was it trained with other parameters (model, tokenizer)?")
        if stored[name].shape != tensor.shape:
            raise ValueError(
                f"{path}: '{name}' has shape {list(stored[name].shape)}, the model asks for {list(tensor.shape)}; "
                "use the params.yaml beside the weights"
            )
    if surplus := stored.keys() - wanted.keys() if strict else None:
        raise ValueError(f"{path}: weights that the model has no place for: {', '.join(sorted(surplus))}")
    model.load_state_dict({name: stored[name] for name in wanted})
