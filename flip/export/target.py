"""What all targets of an export have in common: what they ask of a variant's form, and a model of theirs in use."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.export.names import Pair, exported
from flip.model.two_towers import TwoTowers


@dataclass(frozen=True)
class Need:
    """A value that a target can express; others are refused."""

    key: str
    allowed: tuple
    why: str
    when: Callable[[Params], bool] = lambda params: True

    def fault(self, params: Params) -> str | None:
        value = reduce(getattr, self.key.split("."), params)
        if value in self.allowed or not self.when(params):
            return None
        return f"{self.key} = {value!r}; allowed: {', '.join(map(repr, self.allowed))}: {self.why}"


IMAGE_TOWER = Need("has_image_tower", (True,), "it is an image tower, which is only built where a loss reads pictures")
TWO_TOWERS = Need("aligned", (True,), "it has a text tower, which is only trained where a loss ties it to pictures")


@dataclass
class Loaded:
    """A model as its own library loads it, with the preprocessing and tokenizer that it finds there."""

    model: nn.Module
    pixels: Callable[[Image.Image], Tensor]  # a picture as the model takes it [3, height, width]
    encode_image: Callable[[Tensor], Tensor]  # [batch, 3, height, width] -> features [batch, width]
    tokenize: Callable[[list[str]], Tensor] | None = None  # -> ids [captions, slots]
    encode_text: Callable[[Tensor], Tensor] | None = None  # -> features [captions, width]
    tokenizer: object = None
    further: Callable[[Tensor, Tensor | None], Tensor] | None = None  # what else it makes of pictures and ids


class Target(Protocol):
    """One class of models of another library."""

    name: str
    needs: tuple[Need, ...]
    table: list[Pair]
    zeros: frozenset[str]  # weights of theirs that ours may lack: biases, which are then zero
    image_only: bool
    keeps: frozenset[str]  # what it has besides the towers: decoder, or names of passes
    note: str  # what else its users should know; may be empty
    usage: str  # how to load it, as Python; {folder} stands for the export's

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        """Writes config, weights and tokenizer to a folder that will be called `final`."""

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        """Loads what `write`, or their library, wrote; a bare file of weights needs the architecture's name."""

    def further(self, model: TwoTowers, images: Tensor, ids: Tensor | None) -> Tensor:
        """What our model makes of uint8 images and ids besides features, where the loaded one says what theirs does."""

    def state(self, loaded: Loaded) -> dict[str, Tensor]:
        """Its weights, under the names of the table."""

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict:
        """Parameters of ours that it has: `model`, `form`, `captions`; whether the logits have a `bias`; what
        tokenizer.json holds (`tokenizer`). The last three only where there is a text tower.

        Raises:
            ValueError: something that ours cannot express.
        """


def faults(target: Target, params: Params) -> list[str]:
    return [fault for need in target.needs if (fault := need.fault(params))]


def own_weights(model: TwoTowers) -> dict[str, Tensor]:
    """All that a model computes with, under our names: fixed positions are written as learned ones, and a bottlenecked
    token embedding as the plain one that it comes to."""
    found = dict(model.state_dict()) | {"vision.positions": model.vision.positions}
    if model.text is not None:
        found["text.embed.weight"] = model.text.embed.weight
    if model.decoder is not None:
        found["decoder.positions"] = model.decoder.positions
    return {name: tensor.detach() for name, tensor in found.items()}


def their_weights(target: Target, model: TwoTowers, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that their model of the same form loads; biases that ours lacks are zero there."""
    found = exported(target.table, own_weights(model))
    if target.image_only:
        found = {name: found[name] for name in found.keys() & wanted.keys()}
    empty = {name: torch.zeros_like(wanted[name]) for name in (target.zeros & wanted.keys()) - found.keys()}
    return {name: tensor.contiguous() for name, tensor in (found | empty).items()}
