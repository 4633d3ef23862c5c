"""Define what a target of an export is: what it requires of a variant, and a model as its library loads it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.export.names import WeightPair, exported
from flip.model.two_towers import TwoTowers


@dataclass(frozen=True)
class Need:
    """Require a parameter to have one of the values that a target can express."""

    key: str
    allowed: tuple[object, ...]
    why: str
    when: Callable[[Params], bool] = lambda params: True

    def fault(self, params: Params) -> str | None:
        """Return a message if the parameters do not meet the requirement."""
        value: object = reduce(getattr, self.key.split("."), params)
        if value in self.allowed or not self.when(params):
            return None
        return f"{self.key} = {value!r}; allowed: {', '.join(map(repr, self.allowed))}: {self.why}"


IMAGE_TOWER = Need("has_image_tower", (True,), "it is an image tower, which is only built where a loss reads images")
NOT_MERGED = Need(
    "form.vision.merged",
    (0.0,),
    "it sees every patch, and this model merges tokens (form.vision.merges_at_evaluation)",
    lambda params: params.form.vision.merges_at_evaluation,
)
TWO_TOWERS = Need("aligned", (True,), "it has a text tower, which is only trained where a loss ties it to images")


@dataclass
class Loaded:
    """Hold a model as its own library loads it, with the preprocessing and the tokenizer found with it."""

    model: Any  # a module of another library
    pixels: Callable[[Image.Image], Tensor]  # an image as the model reads it [3, height, width]
    encode_image: Callable[[Tensor], Tensor]  # [batch, 3, height, width] -> features [batch, width]
    tokenize: Callable[[list[str]], Tensor] | None = None  # -> ids [captions, tokens]
    encode_text: Callable[[Tensor], Tensor] | None = None  # -> features [captions, width]
    tokenizer: Any = None
    further: Callable[[Tensor, Tensor | None], Tensor] | None = None  # other outputs, of images and ids


class Target(Protocol):
    """Describe one class of models that variants are written as.

    A target whose models have outputs besides features has a method `further(model, images, ids)`, too, which returns
    these outputs of our model, for uint8 images and token ids, to be compared with `Loaded.further`.
    """

    name: str
    needs: tuple[Need, ...]
    image_only: bool
    keeps: frozenset[str]  # what is exported besides the towers: decoder, or names in TwoTowers.passes
    note: str  # what else its users should know; may be empty
    usage: str  # how to load it, as Python; {folder} stands for the export's

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        """Write configuration, weights and tokenizer to a folder that is renamed to `final` later."""

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        """Load what `write`, or their library, wrote; a file of weights needs the name of the architecture."""


class ReadTarget(Target, Protocol):
    """Describe one class of models of another library, which are also read back into variants."""

    table: list[WeightPair]
    zeros: frozenset[str]  # weights of theirs that we may lack: biases, which are then zero

    def state(self, loaded: Loaded) -> dict[str, Tensor]:
        """Return its weights under the names of the table."""

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict[str, Any]:
        """Return our parameters for it: sections `model`, `form`, `captions`; whether the logits have a `bias`; the
        content of tokenizer.json (`tokenizer`). The last three only if it has a text tower.

        Raises:
            ValueError: our parameters cannot express it.
        """


def faults(target: Target, params: Params) -> list[str]:
    """Return a message for each requirement of a target that the parameters do not meet."""
    return [fault for need in (NOT_MERGED, *target.needs) if (fault := need.fault(params))]


def own_weights(model: TwoTowers) -> dict[str, Tensor]:
    """Return all weights of a model under our names, fixed positions as learned ones, and a token embedding with a
    bottleneck as the full matrix."""
    assert model.vision is not None
    found = dict(model.state_dict()) | {"vision.positions": model.vision.positions}
    if model.text is not None:
        found["text.embed.weight"] = model.text.embed.weight
    if model.decoder is not None:
        found["decoder.positions"] = model.decoder.positions
    return {name: tensor.detach() for name, tensor in found.items()}


def their_weights(target: ReadTarget, model: TwoTowers, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict for their model of the same architecture; biases that we lack are zero."""
    found = exported(target.table, own_weights(model))
    if target.image_only:
        found = {name: found[name] for name in found.keys() & wanted.keys()}
    empty = {name: torch.zeros_like(wanted[name]) for name in (target.zeros & wanted.keys()) - found.keys()}
    return {name: tensor.contiguous() for name, tensor in (found | empty).items()}
