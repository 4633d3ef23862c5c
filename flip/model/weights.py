"""The weights of a finished run, as safetensors."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from flip.files import write_atomic


def save_weights(path, weights: dict[str, Tensor]) -> None:
    write_atomic(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))


def load_weights(path, model: nn.Module, strict: bool = True, optional: str | None = None) -> None:
    """Copies the weights at `path` into `model`; with `strict` off, surplus ones (a decoder) are ignored. A part of the
    model named `optional` stays as it is where the file has nothing of it.

    Raises:
        ValueError: a file cut short, a missing weight, or one of another shape.
    """
    try:
        stored = load(Path(path).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); delete it and train again") from None
    wanted = model.state_dict()
    if optional and not any(name.startswith(optional) for name in stored):
        wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith(optional)}
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
    model.load_state_dict({name: stored[name] for name in wanted}, strict=optional is None)
