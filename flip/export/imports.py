"""Convert a public checkpoint of open_clip, transformers or timm to flip's weights, to evaluate or to train on.

A checkpoint is a folder with its configuration, or a file of weights and the name of its architecture. Files are read
as safetensors or by torch with weights_only: no code in them is run. What the checkpoint does not state (data,
training, test sets) is taken from a scale of params.yaml. The features are compared with those of its own library
before anything is written.
"""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

import flip.data.torchvision_operators  # noqa: F401  (before timm and open_clip import torchvision)
from flip.config.faults import check
from flip.config.frozen import dump, merge
from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.export.check import Differences, compare
from flip.export.formats import models
from flip.export.names import imported
from flip.export.target import Loaded, ReadTarget
from flip.files import atomic_folder, write_atomic, write_json
from flip.losses import build_towers
from flip.model.weights import save_weights

UNREADABLE = (SafetensorError, UnpicklingError, RuntimeError, OSError, KeyError, ValueError, EOFError)
# The losses that a model was trained by, as far as its weights say.
SIGMOID = {"contrastive": {"weight": 0.0}, "sigmoid": {"weight": 1.0, "bias": -10.0}, "logits": {"max_scale": None}}
SOFTMAX = {"contrastive": {"weight": 1.0}, "sigmoid": {"weight": 0.0}, "logits": {"max_scale": 100.0}}


@dataclass(frozen=True)
class Checkpoint:
    """Name a checkpoint: its library, its folder or file of weights, and of a file the library's name for what it
    holds (as ViT-B-32)."""

    library: str
    source: Path
    architecture: str | None = None


def read(one: Checkpoint) -> tuple[ReadTarget, Loaded]:
    """Load a checkpoint with its own library.

    Raises:
        ValueError: it does not exist, is damaged, holds more than tensors, or belongs to another library.
    """
    name, source, architecture = one.library, one.source, one.architecture
    if not source.exists():
        raise ValueError(f"{source}: not there; --source wants a folder, or a file of weights")
    if source.is_file() != bool(architecture and name != "transformers"):
        raise ValueError(
            f"{source}: a file of weights needs --architecture (a name that {name} knows), a folder none; "
            "transformers reads folders only"
        )
    try:
        known = models(name)
        if name == "open_clip":
            loaded = known.OpenClip().load(source, architecture)
            return known.kind_of(loaded), loaded
        target = known.Timm() if name == "timm" else known.kind_of(source)
        return target, target.load(source, architecture)
    except UNREADABLE as error:
        raise ValueError(f"{source}: {name} cannot load it: {str(error).strip().splitlines()[0]}") from error


def adopt(base: Params, delta: dict[str, Any], variant: str) -> Params:
    """Return the parameters of a model: those in `delta`, else those in `base`, without masking or other objectives.

    Raises:
        ParameterError: they are not valid.
    """
    losses = SIGMOID if delta.get("bias") else SOFTMAX
    plain: dict[str, Any] = {
        "variant": variant,
        "start": None,
        "captions": {"tokenizer": "scale"},
        "masking": {"image": 0.0, "text": 0.0},
        "reconstruction": {"weight": 0.0},
        "generative": {"pixels": 0.0, "words": 0.0},
        "simclr": {"weight": 0.0},
        "flava": dict.fromkeys(("mim", "mlm", "mmm_image", "mmm_text", "itm"), 0.0),
        "form": {"text": {"embedding_norm": False}},
    }
    described = {key: delta[key] for key in ("model", "form", "captions") if key in delta}
    tree = merge(base.model_dump(mode="json"), merge(merge(plain, losses), described))
    return check(Params, tree, f"variant '{variant}'")


def convert(target: ReadTarget, loaded: Loaded, params: Params, vocabulary: int, source: Path) -> dict[str, Tensor]:
    """Convert weights to ours, of the image tower alone if they have no other.

    Raises:
        ValueError: weights are unknown, missing or of another shape.
    """
    with torch.device("meta"):
        wanted = build_towers(params, vocabulary).state_dict()
    if target.image_only:
        wanted = {name: tensor for name, tensor in wanted.items() if name.startswith("vision.")}
    found = imported(target.table, target.state(loaded), wanted, str(source))
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{source}: '{name}' would be {list(tensor.shape)}; allowed: {list(wanted[name].shape)} (an MLP is "
                "four times as wide as its tower, and every patch has one position)"
            )
    return found


def convert_checkpoint(one: Checkpoint, variant: str, out: Path, base: Params) -> Differences:
    """Write weights, parameters and, for a text tower, the tokenizer to the new folder `out`.

    Raises:
        ValueError: the checkpoint cannot be converted, or features differ from those of its library.
    """
    target, loaded = read(one)
    delta = target.describe(loaded, one.source, one.architecture)
    stored = delta.get("tokenizer")
    params = adopt(base, delta, variant)
    with atomic_folder(out) as folder:
        tokenizer, vocabulary = None, 1
        if stored:
            write_json(folder / "tokenizer.json", stored)
            tokenizer = CaptionTokenizer(folder / "tokenizer.json", params.model.tokens, params.captions)
            vocabulary = tokenizer.vocabulary
        weights = convert(target, loaded, params, vocabulary, one.source)
        model = build_towers(params, vocabulary)
        model.load_state_dict(weights, strict=not target.image_only)
        differences = compare(model, tokenizer, loaded, prepared=True)
        write_atomic(folder / "params.yaml", dump(params))
        save_weights(folder / "weights.safetensors", weights)
    return differences
