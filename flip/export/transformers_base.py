"""Convert to and from models of transformers: what all its classes share."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPImageProcessor, PreTrainedModel

from flip.config.frozen import merge
from flip.config.schema import Blocks, Params, Tower
from flip.data.tokenizer import CaptionTokenizer
from flip.export.names import WeightPair
from flip.export.target import Loaded, Need, their_weights
from flip.export.tokens import stored_tokenizer, write_tokenizer
from flip.model.two_towers import TwoTowers

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}
OWN_CODE = {"trust_remote_code": False}  # code in a checkpoint is never run, and no prompt asks whether it may be
# How a model card loads a folder and reads an image and a caption.
READ = (
    "from transformers import AutoImageProcessor, AutoModel, AutoTokenizer\n\n"
    'model = AutoModel.from_pretrained("{folder}").eval()\n'
    'processor, tokenizer = (auto.from_pretrained("{folder}") for auto in (AutoImageProcessor, AutoTokenizer))\n'
    'pixels = processor(image, return_tensors="pt")  # a PIL image\n'
    'ids = tokenizer(["a photo of a dog"], padding="max_length", truncation=True, return_tensors="pt")\n'
)


def blocks(tower: Tower, form: Blocks) -> dict[str, Any]:
    """Return the keys of their configuration for the blocks of a tower."""
    found: dict[str, Any] = {
        "hidden_size": tower.width,
        "intermediate_size": 4 * tower.width,
        "num_hidden_layers": tower.layers,
    }
    found |= {"num_attention_heads": tower.heads, "layer_norm_eps": form.norm_epsilon}
    return found | {"hidden_act": ACTIVATIONS[form.activation]}


def towers(params: Params, tokenizer: CaptionTokenizer) -> dict[str, Any]:
    """Return their configurations of both towers."""
    model, form, end = params.model, params.form, tokenizer.after[0]
    text = blocks(model.text, form.text) | {"vocab_size": tokenizer.vocabulary, "max_position_embeddings": model.tokens}
    text |= {"eos_token_id": end, "pad_token_id": end, "bos_token_id": tokenizer.before[0] if tokenizer.before else end}
    vision = blocks(model.vision, form.vision) | {"image_size": model.image, "patch_size": model.patch}
    return {"vision_config": vision, "text_config": text}


def described_blocks(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters `model` and `form` of a tower that their configuration describes.

    Raises:
        ValueError: the activation or the width of the MLP is not supported.
    """
    known = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
    if config.hidden_act not in known:
        raise ValueError(f"its activation is {config.hidden_act}; allowed: {', '.join(known)}")
    if config.intermediate_size != 4 * config.hidden_size:
        raise ValueError(
            f"its MLP is {config.intermediate_size} wide; allowed: {4 * config.hidden_size}, four times its tower"
        )
    size = {"layers": config.num_hidden_layers, "width": config.hidden_size, "heads": config.num_attention_heads}
    return size, {"activation": known[config.hidden_act], "norm_epsilon": config.layer_norm_eps}


class Transformers:
    """Implement a target (flip.export.target.Target) for a class of transformers, but `build` and `fills`."""

    name: str
    needs: tuple[Need, ...]
    table: list[WeightPair]
    bias: bool  # whether the logits have one
    zeros: frozenset[str] = frozenset()
    also: tuple[tuple[str, object], ...] = ()
    image_only = False
    vision_key = "vision_config"  # key of the image tower in their configuration
    keeps: frozenset[str] = frozenset()  # what is exported besides the towers
    note = ""
    usage = READ + "found = model(**pixels, **ids)  # image_embeds, text_embeds, logits_per_image"

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> PreTrainedModel:
        """Return their model of the same architecture, with random weights."""
        raise NotImplementedError

    def fills(self, loaded: Loaded) -> bool:
        """Return whether captions are filled up with end tokens, which are attended to."""
        raise NotImplementedError

    def features(self, model: PreTrainedModel, images: Tensor) -> Tensor:
        """Return features of an image tower alone, [batch, width]."""
        raise NotImplementedError

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        theirs = self.build(model.params, tokenizer)
        theirs.load_state_dict(their_weights(self, model, theirs.state_dict()))
        theirs.save_pretrained(folder)
        form, side = model.params.form.vision, model.params.model.image
        CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, resample=3,
            image_mean=list(form.mean), image_std=list(form.std),
        ).save_pretrained(folder)  # fmt: skip
        if not self.image_only:
            self.write_tokenizer(tokenizer, folder)

    def write_tokenizer(self, tokenizer: CaptionTokenizer, folder: Path) -> None:
        write_tokenizer(tokenizer, folder)

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        model, info = AutoModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **OWN_CODE)
        model = model.eval()
        if missing := sorted(info["missing_keys"]):  # which it would initialize at random
            raise ValueError(f"{len(missing)} weights are missing: {', '.join(missing[:4])}")
        processor = AutoImageProcessor.from_pretrained(source, **OWN_CODE)
        pixels = lambda image: processor(image, return_tensors="pt")["pixel_values"][0]  # noqa: E731
        if self.image_only:
            return Loaded(model, pixels, lambda images: self.features(model, images))
        tokenizer, slots = (
            AutoTokenizer.from_pretrained(source, **OWN_CODE),
            model.config.text_config.max_position_embeddings,
        )
        settings = {"padding": "max_length", "truncation": True, "max_length": slots, "return_tensors": "pt"}
        return Loaded(
            model, pixels, lambda images: pooled(model.get_image_features(pixel_values=images)),
            lambda texts: tokenizer(texts, **settings)["input_ids"],
            lambda ids: pooled(model.get_text_features(input_ids=ids)), tokenizer,
        )  # fmt: skip

    def state(self, loaded: Loaded) -> dict[str, Tensor]:
        return loaded.model.state_dict()

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict[str, Any]:
        config, processor = loaded.model.config, AutoImageProcessor.from_pretrained(source, **OWN_CODE)
        own = {"mean": list(processor.image_mean), "std": list(processor.image_std)}
        vision = getattr(config, self.vision_key, config)
        size, form = described_blocks(vision)
        model = {"image": vision.image_size, "patch": vision.patch_size, "vision": size}
        form |= own | {"positions": "learned"}
        found = merge({"model": model, "form": {"vision": form}}, self.form())
        return found if self.image_only else merge(found, self.described_text(loaded) | {"bias": self.bias})

    def form(self) -> dict[str, Any]:
        """Return the section `form` of every model of the class: those it needs, and those it can emulate (`also`)."""
        found: dict[str, dict[str, Any]] = {}
        for key, value in (*((need.key, need.allowed[0]) for need in self.needs), *self.also):
            if key.startswith("form."):
                _, side, name = key.split(".")
                found.setdefault(side, {})[name] = value
        return {"form": found}

    def described_text(self, loaded: Loaded) -> dict[str, Any]:
        """Return the parameters of the text tower, and the tokenizer."""
        config = loaded.model.config.text_config
        size, form = described_blocks(config)
        stored, captions = stored_tokenizer(loaded.tokenizer, config.vocab_size)
        found = {"model": {"text": size, "tokens": config.max_position_embeddings}, "form": {"text": form}}
        return found | {"captions": captions | {"fill": self.fills(loaded)}, "tokenizer": stored}


def pooled(features: Any) -> Tensor:
    """Return features [items, embedding] as they are, or take them from the output object of newer versions of
    transformers."""
    return getattr(features, "pooler_output", features)
