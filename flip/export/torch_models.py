"""Export any variant as programs of torch.export, which torch alone runs: for forms that no library has a class for.

FLIP's text tower averages over a caption's tokens, which neither open_clip nor transformers can. `image.pt2` takes
bytes and `text.pt2` token ids, for any number of them at a time; both are checked like every other export.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from flip.data.tokenizer import CaptionTokenizer
from flip.export.target import IMAGE_TOWER, TWO_TOWERS, Loaded, Need
from flip.export.tokens import backend
from flip.files import write_json
from flip.model.text import TextEncoder
from flip.model.transformer import Transformer
from flip.model.two_towers import TwoTowers

BATCH = torch.export.Dim("batch")
IMAGE_USAGE = """\
import json
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageOps

folder = "{folder}"
config = json.loads(Path(folder, "config.json").read_text())
encode_image = torch.export.load(folder + "/image.pt2").module()
square = ImageOps.fit(image.convert("RGB"), [config["image"]] * 2, Image.Resampling.BICUBIC)
image_features = encode_image(torch.from_numpy(numpy.array(square)).permute(2, 0, 1)[None])"""
TEXT_USAGE = """
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
encode_text = torch.export.load(folder + "/text.pt2").module()
text_features = encode_text(torch.tensor([tokenizer.encode("a red star").ids]))
logits = config["logit_scale"] * torch.cosine_similarity(image_features, text_features) + config["logit_bias"]"""


class DenseRows:
    """Stand in for a PackedBatch whose rows keep their padding: shapes then depend on no value, as a program needs."""

    min_length = 1

    def __init__(self, valid: Tensor):
        self.lengths = valid.sum(dim=1)
        # A row without tokens would attend to nothing, which is not a number; its feature is set to zero afterwards.
        self.valid = valid | (torch.arange(valid.shape[1]) == 0)

    def pack(self, x: Tensor) -> Tensor:
        return x

    unpack = pack


class ImageProgram(nn.Module):
    """Compute features [batch, width] of uint8 images [batch, 3, side, side], `projected` or the tower's own."""

    def __init__(self, model: TwoTowers, projected: bool):
        super().__init__()
        self.model, self.projected = model, projected

    def forward(self, images: Tensor) -> Tensor:
        assert self.model.vision is not None
        pixels = images.permute(0, 2, 3, 1)
        return self.model.encode_image(pixels) if self.projected else self.model.vision.feature(pixels)


class TextProgram(nn.Module):
    """Compute features [batch, embedding] of ids, int64 [batch, slots], in which `padding` is no token."""

    def __init__(self, model: TwoTowers, padding: int):
        super().__init__()
        self.text, self.projection, self.padding = model.text, model.text_projection, padding

    def forward(self, ids: Tensor) -> Tensor:
        text: TextEncoder | None = self.text
        assert text is not None
        rows = DenseRows(ids != self.padding)
        x = text.embed(torch.where(ids == self.padding, 0, ids)) + text.positions.weight
        if text.embedding_norm is not None:
            x = text.embedding_norm(x)
        x = text.transformer(x, rows)
        if text.slot is None:
            real = (torch.arange(ids.shape[1]) < rows.lengths[:, None])[..., None]
            found = torch.where(real, x, 0).sum(1) / rows.lengths.clamp(min=1)[:, None]
        else:
            slot = text.slot(rows.lengths).clamp(min=0)
            found = torch.where(rows.lengths[:, None] > 0, x[torch.arange(x.shape[0]), slot], 0)
        return self.projection(found)


def program(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Trace a module for batches of any size; `example` is [batch, ...]."""
    return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: BATCH},))


def own_copy(model: TwoTowers) -> TwoTowers:
    """Copy a model whose blocks take a batch as a whole."""
    found = copy.deepcopy(model).cpu().float().requires_grad_(False)
    for module in found.modules():
        if isinstance(module, Transformer):
            module.chunk_on_cpu = False
    return found


class TorchImages:
    """Write the image tower as a program."""

    name = "a program of torch.export"
    needs: tuple[Need, ...] = (IMAGE_TOWER,)
    image_only = True
    keeps: frozenset[str] = frozenset()
    note = ""
    usage = IMAGE_USAGE

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        one, side = own_copy(model), model.params.model.image
        example = torch.zeros(2, 3, side, side, dtype=torch.uint8)
        torch.export.save(program(ImageProgram(one, not self.image_only), example), folder / "image.pt2")
        write_json(folder / "config.json", self.facts(model))

    def facts(self, model: TwoTowers) -> dict[str, Any]:
        """Return what who runs the programs has to know."""
        form = model.params.form.vision
        return {"image": model.params.model.image, "mean": list(form.mean), "std": list(form.std)}

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        config = json.loads((source / "config.json").read_text())
        run = torch.export.load(source / "image.pt2").module()
        mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))

        def pixels(image: Image.Image) -> Tensor:
            square = ImageOps.fit(image.convert("RGB"), (config["image"],) * 2, Image.Resampling.BICUBIC)
            return (torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255 - mean) / std

        return Loaded(run, pixels, lambda x: run((255 * (x * std + mean)).round().to(torch.uint8)))


class TorchTowers(TorchImages):
    """Write both towers with their projections, a program each, and a tokenizer of the library tokenizers."""

    name = "programs of torch.export"
    needs = (TWO_TOWERS,)
    image_only = False
    usage = IMAGE_USAGE + TEXT_USAGE

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        super().write(model, tokenizer, folder, final)
        filled = tokenizer.padding >= 0  # with end tokens, which are attended to: no id is padding then
        padding = tokenizer.vocabulary
        example = torch.zeros(2, tokenizer.slots, dtype=torch.int64)
        torch.export.save(program(TextProgram(own_copy(model), padding), example), folder / "text.pt2")
        fast, _ = backend(tokenizer)
        fast.enable_truncation(tokenizer.slots)
        fast.enable_padding(pad_id=tokenizer.padding if filled else padding, pad_token="[PAD]", length=tokenizer.slots)
        fast.save(str(folder / "tokenizer.json"))

    def facts(self, model: TwoTowers) -> dict[str, Any]:
        bias = 0.0 if model.logit_bias is None else model.logit_bias.item()
        return super().facts(model) | {"logit_scale": model.scale.item(), "logit_bias": bias}

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        from tokenizers import Tokenizer

        found = super().load(source)
        tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        found.tokenize = lambda texts: torch.tensor([one.ids for one in tokenizer.encode_batch(texts)])
        found.encode_text = torch.export.load(source / "text.pt2").module()
        return found


EXPORTS = (TorchTowers, TorchImages)
