"""What models of transformers have in common: configuration, files, preprocessing, tokenizer."""

from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPImageProcessor

from flip.config.frozen import merge
from flip.config.schema import Blocks, Params, Tower
from flip.data.tokenizer import CaptionTokenizer
from flip.export.target import Loaded, their_weights
from flip.export.tokens import stored_tokenizer, write_tokenizer
from flip.model.two_towers import TwoTowers

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}
OWN_CODE = {"trust_remote_code": False}  # what a checkpoint brings is not run, and nobody is asked whether it may be
# How a model card reads a folder, a picture and a caption; what it does with them follows.
READ = (
    "from transformers import AutoImageProcessor, AutoModel, AutoTokenizer\n\n"
    'model = AutoModel.from_pretrained("{folder}").eval()\n'
    'processor, tokenizer = (auto.from_pretrained("{folder}") for auto in (AutoImageProcessor, AutoTokenizer))\n'
    'pixels = processor(picture, return_tensors="pt")  # a PIL picture\n'
    'ids = tokenizer(["a photo of a dog"], padding="max_length", truncation=True, return_tensors="pt")\n'
)


def blocks(tower: Tower, form: Blocks) -> dict:
    found = {"hidden_size": tower.width, "intermediate_size": 4 * tower.width, "num_hidden_layers": tower.layers}
    found |= {"num_attention_heads": tower.heads, "layer_norm_eps": form.norm_epsilon}
    return found | {"hidden_act": ACTIVATIONS[form.activation]}


def towers(params: Params, tokenizer: CaptionTokenizer) -> dict:
    model, form, end = params.model, params.form, tokenizer.after[0]
    text = blocks(model.text, form.text) | {"vocab_size": tokenizer.vocabulary, "max_position_embeddings": model.tokens}
    text |= {"eos_token_id": end, "pad_token_id": end, "bos_token_id": tokenizer.before[0] if tokenizer.before else end}
    vision = blocks(model.vision, form.vision) | {"image_size": model.image, "patch_size": model.patch}
    return {"vision_config": vision, "text_config": text}


def described_blocks(config) -> tuple[dict, dict]:
    """Size and form of a tower.

    Raises:
        ValueError: another activation, or an MLP of another width.
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
    """What its classes share: files, preprocessing, tokenizer."""

    zeros = frozenset()
    also: tuple[tuple[str, object], ...] = ()
    image_only = False
    picture = "vision_config"  # where their configuration has the image tower
    keeps: frozenset[str] = frozenset()  # what they have of ours besides the towers
    note = ""
    usage = READ + "found = model(**pixels, **ids)  # image_embeds, text_embeds, logits_per_image"

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
        if lost := sorted(info["missing_keys"]):  # which it would draw at random
            raise ValueError(f"{len(lost)} weights are missing: {', '.join(lost[:4])}")
        processor = AutoImageProcessor.from_pretrained(source, **OWN_CODE)
        pixels = lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0]  # noqa: E731
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

    def state(self, loaded: Loaded) -> dict:
        return loaded.model.state_dict()

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict:
        config, processor = loaded.model.config, AutoImageProcessor.from_pretrained(source, **OWN_CODE)
        own = {"mean": list(processor.image_mean), "std": list(processor.image_std)}
        picture = getattr(config, self.picture, config)
        size, form = described_blocks(picture)
        model = {"image": picture.image_size, "patch": picture.patch_size, "vision": size}
        form |= own | {"positions": "learned"}
        found = merge({"model": model, "form": {"vision": form}}, self.form())
        return found if self.image_only else merge(found, self.described_text(loaded) | {"bias": self.bias})

    def form(self) -> dict:
        """What every model of the class has: the values that it needs, and those whose lack can be made up for."""
        found = {}
        for key, value in (*((need.key, need.allowed[0]) for need in self.needs), *self.also):
            if key.startswith("form."):
                _, side, name = key.split(".")
                found.setdefault(side, {})[name] = value
        return {"form": found}

    def described_text(self, loaded: Loaded) -> dict:
        config = loaded.model.config.text_config
        size, form = described_blocks(config)
        stored, captions = stored_tokenizer(loaded.tokenizer, config.vocab_size)
        found = {"model": {"text": size, "tokens": config.max_position_embeddings}, "form": {"text": form}}
        return found | {"captions": captions | {"fill": self.fills(loaded)}, "tokenizer": stored}


def pooled(features):
    """Features themselves, or the output object around them."""
    return getattr(features, "pooler_output", features)
