"""Read and write the weights of a finished run, as safetensors."""

import math
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from flip.files import read_json, write_atomic
from flip.model.vision import resample_positions

FACTS = "training.json"  # beside weights that were trained here; says, among other things, their file's SHA-256
POSITIONS = "vision.positions"  # where they are learned


def serialize(weights: dict[str, Tensor]) -> bytes:
    """Return the bytes of a file of these weights."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})


def save_weights(path: str | Path, weights: dict[str, Tensor]) -> None:
    """Write weights to a safetensors file, atomically."""
    write_atomic(path, serialize(weights))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a file of weights, which has to be the one that `FACTS` beside it describes, if that is there.

    Raises:
        ValueError: a file cut short, or other content than was written.
    """
    path = Path(path)
    content, facts = path.read_bytes(), path.with_name(FACTS)
    stated = read_json(facts).get("weights") if facts.exists() else None
    if stated and stated != (found := sha256(content).hexdigest()):
        raise ValueError(
            f"{path}: its SHA-256 is {found[:12]}, but {FACTS} says {stated[:12]}, so it is not what training wrote; "
            "`dvc checkout` brings back what DVC has recorded, otherwise delete the folder and train again"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}); delete it and train again") from None


def load_weights(
    path: str | Path, model: nn.Module, strict: bool = True, optional: Iterable[str] = (), resample: bool = False
) -> None:
    """Copy the weights at `path` into `model`; with `strict` off, surplus ones (a decoder) are ignored.

    Parts of the model named in `optional` stay as they are where the file has nothing of them. With `resample`,
    learned positions of images of another size are interpolated.

    Raises:
        ValueError: as `read_weights`, a missing weight, or one of another shape.
    """
    stored = read_weights(path)
    wanted = model.state_dict()
    if resample and POSITIONS in wanted and POSITIONS in stored:
        stored[POSITIONS] = resample_positions(stored[POSITIONS], math.isqrt(len(wanted[POSITIONS])))
    new = tuple(f"{part}." for part in optional if not any(name.startswith(f"{part}.") for name in stored))
    wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith(new)}
    for name, tensor in wanted.items():
        if name not in stored:
            raise ValueError(f"{path}: no weight '{name}'; was it trained with other parameters (model, tokenizer)?")
        if stored[name].shape != tensor.shape:
            raise ValueError(
                f"{path}: '{name}' has shape {list(stored[name].shape)}, the model asks for {list(tensor.shape)}; "
                "use the params.yaml next to the weights"
            )
    if surplus := stored.keys() - wanted.keys() if strict else None:
        raise ValueError(f"{path}: weights that the model does not have: {', '.join(sorted(surplus))}")
    model.load_state_dict({name: stored[name] for name in wanted}, strict=not new)
