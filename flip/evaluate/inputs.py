"""Read the inputs of an evaluation: a model with its weights, and the images of a test set."""

from pathlib import Path

import torch

from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path
from flip.evaluate.encoders import ImageLoader, Tokenize
from flip.losses import build_towers
from flip.model.two_towers import TwoTowers
from flip.model.weights import load_weights
from flip.testsets.cache import decoded
from flip.testsets.reader import read_set, revision, set_folder


def read(params: Params, data: Path, name: str, split: str = "test") -> ImageLoader:
    """Return the images of a set's split, with their classes or captions.

    Raises:
        ValueError: a folder without the layout, or one that has changed since the data's stage looked at it.
    """
    side, batch = params.model.image, params.evaluate.batch
    loader = read_set(set_folder(params, data, name), side, batch, split)
    found = revision(params, data, name)
    return decoded(loader, data / "squares" / name, found if split == "test" else found[split], side, batch)


def new_model(
    params: Params, data: Path, device: str, tokenizer: str | Path | None = None
) -> tuple[TwoTowers, Tokenize]:
    """Build a model without its weights, and the function from texts to token ids, by the data's tokenizer or
    another."""
    path = tokenizer or tokenizer_path(data, params.captions)
    captions = CaptionTokenizer(path, params.model.tokens, params.captions)
    model = build_towers(params, captions.vocabulary).to(device).eval()
    return model, lambda texts: torch.from_numpy(captions(texts))


def read_model(
    params: Params, data: Path, weights: str | Path, device: str, tokenizer: str | Path | None = None
) -> tuple[TwoTowers, Tokenize]:
    """Return `new_model` with the weights in a file.

    Raises:
        ValueError: weights of another model.
    """
    model, tokenize = new_model(params, data, device, tokenizer)
    load_weights(weights, model)
    return model, tokenize
