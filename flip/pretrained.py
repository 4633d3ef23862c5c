"""Give a trained model to Python programs, with the names of open_clip: encode_image, encode_text, preprocess,
tokenizer."""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from flip.config.frozen import load as load_params
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path
from flip.device import pick_device
from flip.evaluate.inputs import read_model
from flip.formats.images import decode
from flip.model.two_towers import TwoTowers
from flip.provenance.layout import Layout
from flip.provenance.trained import find
from flip.testsets.reader import to_square

WEIGHTS = "weights.safetensors"


class PretrainedModel(nn.Module):
    """Encode images and captions by a trained model; features are not normalised unless asked for.

    `params` are the parameters that it was trained with, `towers` the model itself. Gradients flow, as in any module;
    use `torch.no_grad()` where none are needed.
    """

    def __init__(self, towers: TwoTowers, tokenizer: CaptionTokenizer):
        super().__init__()
        self.towers, self.params = towers, towers.params
        self._tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def preprocess(self, image: Image.Image | str | Path) -> Tensor:
        """Return an image as the model reads it: uint8 [3, side, side], its centred square, resized (bicubic).

        The model itself subtracts the mean. A file is decoded as evaluation does (orientation, colour profile, what is
        transparent on white); of an image of PIL's the orientation is applied.

        Raises:
            ValueError: the file cannot be decoded.
        """
        if isinstance(image, Image.Image):
            shown = ImageOps.exif_transpose(image)
        else:
            shown = decode(Path(image).read_bytes(), str(image))
        return to_square(shown, self.params.model.image).permute(2, 0, 1).contiguous()

    def tokenizer(self, texts: str | list[str]) -> Tensor:
        """Return token ids int64 [texts, tokens] of one text or several; a text is cut where it has more tokens."""
        return torch.from_numpy(self._tokenizer([texts] if isinstance(texts, str) else list(texts)))

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Return image features [batch, embedding] of what `preprocess` gives, uint8 [batch, 3, side, side].

        Args:
            image: the batch; it is copied to the model's device.
            normalize: scale features to unit length.

        Raises:
            ValueError: images of another type or shape, or a model without an image tower.
        """
        if not self.params.has_image_tower:
            raise ValueError(f"'{self.params.variant}' has no image tower, as no loss of it reads images")
        side = self.params.model.image
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[1:] != (3, side, side):
            raise ValueError(
                f"images are {image.dtype} {list(image.shape)}; allowed: torch.uint8 [batch, 3, {side}, {side}], as "
                "torch.stack([model.preprocess(image), ...]) gives them"
            )
        features = self.towers.encode_image(image.permute(0, 2, 3, 1).to(self.device))
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Return text features [batch, embedding] of what `tokenizer` gives, int64 [batch, tokens].

        Args:
            text: the batch; it is copied to the model's device.
            normalize: scale features to unit length.

        Raises:
            ValueError: a model whose captions cannot be compared with images.
        """
        if not self.params.aligned:
            raise ValueError(f"'{self.params.variant}' has {self.params.unaligned}: it encodes images alone")
        features = self.towers.encode_text(text.to(self.device))
        return F.normalize(features, dim=-1) if normalize else features

    @property
    def logit_scale(self) -> Tensor:
        """Return the logarithm of the logit scale, a scalar, as open_clip's models have it."""
        return self.towers.log_scale

    @property
    def logit_bias(self) -> Tensor | None:
        """Return the bias of the sigmoid loss, a scalar; None for models that have none."""
        return self.towers.logit_bias


class Files(NamedTuple):
    """Name the files of a trained model."""

    params: Path
    weights: Path
    tokenizer: Path | None
    data: Path


def of_folder(place: Path) -> Files:
    """Return the files of a folder with params.yaml and weights: of a training run, or of an import, which has a
    tokenizer; or of a file of weights in such a folder.

    Raises:
        ValueError: there is no such folder, or not both files in it.
    """
    weights = place if place.is_file() else place / WEIGHTS
    params, own = weights.with_name("params.yaml"), weights.with_name("tokenizer.json")
    if missing := [str(path) for path in (params, weights) if not path.is_file()]:
        raise ValueError(
            f"{', '.join(missing)}: not found; name a variant, the folder of a training run "
            f"(results/<scale>/<variant>/seed-<seed>) or what `flip import` made; an export is loaded by its library"
        )
    trained = load_params(params)
    run = Layout(trained.scale).run(trained.variant, 0)
    project = weights.absolute().parents[len(Path(run).parts)]
    return Files(params, weights, own if own.is_file() else None, project / Layout(trained.scale).data)


def files_of(name: str | Path, scale: str | None, seed: int) -> Files:
    """Return the files of a variant of params.yaml in this folder, or of a folder or a file."""
    if isinstance(name, Path) or "/" in name:
        return of_folder(Path(name))
    trained = find(name, scale, seed)
    return Files(trained.folder / "params.yaml", trained.weights, None, trained.data)


def load(
    name: str | Path,
    scale: str | None = None,
    seed: int = 0,
    device: str | None = None,
    tokenizer: str | Path | None = None,
) -> PretrainedModel:
    """Load a trained model.

        model = flip.load("flip-50")
        image = model.encode_image(torch.stack([model.preprocess(path) for path in paths]), normalize=True)
        text = model.encode_text(model.tokenizer(captions), normalize=True)
        cosines = image @ text.T

    Args:
        name: a variant of params.yaml in this folder; or a path (with a /): a training run's folder, a folder that
            `flip import` made, or a file of weights in one.
        scale: of a variant; by default the one that params.yaml names.
        seed: of a variant.
        device: where to; by default a GPU if there is one.
        tokenizer: a tokenizer.json in place of the one beside the weights, or of the data's.

    Raises:
        ValueError: no such variant or file, or weights of other parameters; the message says what makes them.
    """
    found = files_of(name, scale, seed)
    params = load_params(found.params)
    path = Path(tokenizer or found.tokenizer or tokenizer_path(found.data, params.captions))
    if not path.is_file():
        raise ValueError(f"{path}: not found; `dvc pull data` may bring it, or name another one by tokenizer=")
    towers, _ = read_model(params, found.data, found.weights, device or pick_device(), path)
    return PretrainedModel(towers, CaptionTokenizer(path, params.model.tokens, params.captions))
