"""Check that a model and its counterpart in another library agree: token ids, pixels, image and text features."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flip.data.tokenizer import CaptionTokenizer
from flip.export.target import Loaded
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import to_square

Further = Callable[[TwoTowers, Tensor, Tensor | None], Tensor]
TOLERANCE = 1e-5  # of features, relative to the largest value
LEVELS = 4.0  # of 255: largest mean difference of pixels of an image that is not square
TEXTS = ["a red star on grass", "two blue boats", "a photo of a dog", "IMG 2034", "a picture of " * 30]


@dataclass
class Differences:
    """Hold the largest differences of each kind; None where the target does not compute it."""

    image: float
    text: float | None
    pixels: float  # mean over an image that has to be cropped and resized, in levels of 255
    further: float | None = None  # of other outputs: a decoder's pixels, a multimodal encoder's states

    def __str__(self) -> str:
        text = "" if self.text is None else f", of texts {self.text:.1e}"
        more = "" if self.further is None else f", further outputs by {self.further:.1e}"
        return f"features of images differ by {self.image:.1e}{text}, resized pixels by {self.pixels:.2f} of 255{more}"


def example_image(width: int, height: int, seed: int) -> Image.Image:
    """Draw smooth colours with an edge, as photographs have them; equal in every call with a seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((200, 30, 60), (width // 3, height // 4, width // 2, height // 2))
    return image


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest expected value.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != expected.shape:
        raise ValueError(f"features of shape {list(found.shape)}, expected {list(expected.shape)}")
    return ((found - expected).abs().max() / expected.abs().max()).item()


def own_features(model: TwoTowers, images: Tensor, image_only: bool) -> Tensor:
    """Return features [images, embedding] of uint8 [images, side, side, 3]: before the projection if the other model is
    an image tower alone."""
    if not image_only:
        return model.encode_image(images)
    assert model.vision is not None
    return model.vision.feature(images)


def statistics(model: TwoTowers) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation [3, 1, 1] that normalize pixels from 0 to 1."""
    form = model.params.form.vision
    return torch.tensor(form.mean)[:, None, None], torch.tensor(form.std)[:, None, None]


def normalized(model: TwoTowers, images: Tensor) -> Tensor:
    """Normalize uint8 [batch, height, width, 3] to float [batch, 3, height, width], as other libraries take it."""
    mean, std = statistics(model)
    return (images.permute(0, 3, 1, 2) / 255 - mean) / std


def pixel_difference(model: TwoTowers, loaded: Loaded) -> float:
    """Return the mean difference of preprocessed pixels, in levels of 255, of an image that is not square."""
    side = model.params.model.image
    one = example_image(2 * side + 11, side + 7, seed=5)
    mean, std = statistics(model)
    theirs = 255 * (loaded.pixels(one) * std + mean)
    return (theirs - to_square(one, side).permute(2, 0, 1)).abs().mean().item()


def text_difference(model: TwoTowers, tokenizer: CaptionTokenizer | None, loaded: Loaded) -> float:
    """Return the relative difference of text features.

    Raises:
        ValueError: token ids differ.
    """
    assert tokenizer is not None
    assert loaded.tokenize is not None
    assert loaded.encode_text is not None
    ids, theirs = torch.from_numpy(tokenizer(TEXTS)), loaded.tokenize(TEXTS)
    for text, own, other in zip(TEXTS, ids.tolist(), theirs.tolist(), strict=True):
        length = sum(token >= 0 for token in own)
        if own[:length] != other[:length]:
            raise ValueError(f"'{text[:40]}' has the tokens {own[:length]} here, {other[:length]} there")
    return relative(loaded.encode_text(theirs), model.encode_text(ids))


@torch.inference_mode()
def compare(
    model: TwoTowers,
    tokenizer: CaptionTokenizer | None,
    loaded: Loaded,
    prepared: bool = False,
    further: Further | None = None,
) -> Differences:
    """Compare features, each computed with the library's own preprocessing and tokenizer.

    With `prepared`, both get images that flip has normalized: a public checkpoint may crop or resize in another way,
    which is then reported and allowed. `further(model, images, ids)` gives outputs of ours besides features, which are
    compared if the loaded model has them, too.

    Raises:
        ValueError: features differ by more than 1e-5 of the largest, pixels by more than rounding, or token ids at all.
    """
    model, side = model.float().cpu().eval(), model.params.model.image
    examples = [example_image(side, side, seed) for seed in range(4)]
    images = torch.stack([torch.from_numpy(np.array(one)) for one in examples])
    pixels = normalized(model, images) if prepared else torch.stack([loaded.pixels(one) for one in examples])
    theirs = loaded.encode_image(pixels)
    found = Differences(
        relative(theirs, own_features(model, images, loaded.encode_text is None)),
        text_difference(model, tokenizer, loaded) if loaded.encode_text else None,
        pixel_difference(model, loaded),
    )
    if further and loaded.further:
        texts = TEXTS[: len(images)]
        own, their = None, None
        if loaded.tokenize:
            assert tokenizer is not None
            own, their = torch.from_numpy(tokenizer(texts)), loaded.tokenize(texts)
        found.further = relative(loaded.further(pixels, their), further(model, images, own))
    limits = {"image": TOLERANCE, "text": TOLERANCE, "further": TOLERANCE, "pixels": math.inf if prepared else LEVELS}
    for name, value in asdict(found).items():
        if value is not None and not value <= limits[name]:
            raise ValueError(f"{name}: {value:.2g} apart; allowed: {limits[name]:g}")
    return found
