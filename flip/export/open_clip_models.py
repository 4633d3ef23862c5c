"""Export a variant as an open_clip model: `open_clip.create_model_and_transforms("local-dir:FOLDER")` loads the folder.

The original CLIP architecture uses open_clip's own towers; other image towers are timm's, whose configuration is
written to a folder inside.
"""

from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import get_model_config
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import VisionTransformer
from safetensors.torch import save
from torch import Tensor

from flip.config.frozen import merge
from flip.config.schema import Blocks, Params, Tower
from flip.data.tokenizer import CaptionTokenizer
from flip.export import timm_models
from flip.export.names import OPEN_CLIP, OPEN_CLIP_WITH_TIMM
from flip.export.target import TWO_TOWERS, Loaded, Need, their_weights
from flip.export.timm_models import activation
from flip.export.tokens import is_clips, must_fill_with_end, stored_tokenizer, write_tokenizer
from flip.files import write_atomic, write_json
from flip.model.two_towers import TwoTowers

TEXT = (
    TWO_TOWERS,
    Need("form.text.pooling", ("last",), "its text towers read the state of one token"),
    Need("form.text.embedding_norm", (False,), "its text towers have no LayerNorm there"),
    Need(
        "captions.fill",
        (True,),
        "its text towers attend to padding, which must then be end tokens, unless they are causal",
        lambda params: not params.form.text.causal,
    ),
)
NATIVE = (
    Need("form.vision.pooling", ("class",), "its own image tower has a class token"),
    Need("form.vision.patch_bias", (False,), "its own patch projection has no bias"),
    Need("form.vision.projection", ("linear",), "its own projection has no bias"),
)
QUICK = "it has quick_gelu in both towers or in none"
ALIKE = (
    Need("form.vision.activation", ("quick_gelu",), QUICK, lambda params: params.form.text.activation == "quick_gelu"),
    Need("form.text.activation", ("quick_gelu",), QUICK, lambda params: params.form.vision.activation == "quick_gelu"),
)


def blocks(tower: Tower, form: Blocks) -> dict[str, Any]:
    """Return the keys of their configuration for the blocks of a tower."""
    found: dict[str, Any] = {"layers": tower.layers, "width": tower.width, "norm_kwargs": {"eps": form.norm_epsilon}}
    return found | ({"act_kwargs": {"approximate": "tanh"}} if form.activation == "gelu_tanh" else {})


def text_configuration(params: Params, tokenizer: CaptionTokenizer) -> dict[str, Any]:
    """Return `text_cfg`."""
    form, captions = params.form.text, params.captions
    found = blocks(params.model.text, form) | {"heads": params.model.text.heads, "context_length": params.model.tokens}
    found |= {"vocab_size": tokenizer.vocabulary, "no_causal_mask": not form.causal}
    found |= {"pool_type": "last" if captions.fill else "eos", "eos_id": tokenizer.after[0]}
    found |= {"proj_bias": form.projection == "affine"}
    # Any name will do: from a local folder, open_clip reads the tokenizer in it.
    return found if is_clips(tokenizer) else found | {"hf_tokenizer_name": params.variant}


def preprocessing(params: Params) -> dict[str, Any]:
    """Return `preprocess_cfg`."""
    form = params.form.vision
    found = {"size": params.model.image, "mode": "RGB", "mean": list(form.mean), "std": list(form.std)}
    return found | {"interpolation": "bicubic", "resize_mode": "shortest"}


def described(loaded: Loaded, config: dict[str, Any]) -> dict[str, Any]:
    """Return our parameters for an open_clip model with its `model_cfg`: text tower, embedding and captions.

    Raises:
        ValueError: its text tower is not supported.
    """
    text_config, model = config["text_cfg"], loaded.model
    text = getattr(model, "text", model)
    if "hf_model_name" in text_config:
        raise ValueError("its text tower is a model of transformers; allowed: open_clip's own")
    block, pool = text.transformer.resblocks[0], getattr(text, "pool_type", getattr(text, "text_pool_type", None))
    causal, allowed = text.attn_mask is not None, ["last", "eos", "argmax"]
    if pool not in allowed[: None if causal else 1]:
        kind = "" if causal else ", which is not causal,"
        raise ValueError(f"its text tower{kind} reads the '{pool}' token; allowed: last, in a causal one {allowed[1:]}")
    captions = {"fill": pool == "last" and must_fill_with_end(loaded.tokenizer)}
    size = {"layers": len(text.transformer.resblocks), "width": text.transformer.width, "heads": block.attn.num_heads}
    affine = not hasattr(text.text_projection, "ndim")
    form = {"pooling": "last", "causal": causal, "activation": activation(block.mlp.gelu)}
    form |= {"norm_epsilon": block.ln_1.eps, "projection": "affine" if affine else "linear"}
    found = {"model": {"embedding": config["embed_dim"], "text": size, "tokens": text.context_length}}
    return found | {"form": {"text": form}, "captions": captions}


def own_tower(visual: Any) -> dict[str, Any]:
    """Return our parameters for open_clip's own image tower.

    Raises:
        ValueError: it is another image tower, or has no class token.
    """
    if not isinstance(visual, VisionTransformer) or visual.pool_type != "tok" or visual.attn_pool is not None:
        raise ValueError("its image tower is not a vision transformer with a class token as its feature")
    block = visual.transformer.resblocks[0]
    size = {"layers": len(visual.transformer.resblocks), "width": visual.transformer.width}
    form = {"pooling": "class", "positions": "learned", "pre_norm": bool(list(visual.ln_pre.parameters()))}
    form |= {"patch_bias": False, "activation": activation(block.mlp.gelu), "norm_epsilon": block.ln_1.eps}
    form |= {"projection": "linear"} | {name: list(visual.preprocess_cfg[name]) for name in ("mean", "std")}
    model = {"image": visual.image_size[0], "patch": visual.patch_size[0]}
    return {"model": model | {"vision": size | {"heads": block.attn.num_heads}}, "form": {"vision": form}}


def check_own_code(config: dict[str, Any]) -> None:
    """Check that a configuration makes open_clip load nothing but weights and a tokenizer's vocabulary.

    Raises:
        ValueError: it names a model of transformers for the text tower, or lets the tokenizer run code of its own.
    """
    text = config.get("text_cfg", {})
    if text.get("hf_model_name") or "trust_remote_code" in (text.get("tokenizer_kwargs") or {}):
        raise ValueError(
            "its configuration asks for hf_model_name or trust_remote_code; allowed: open_clip's own towers"
        )


class OpenClip:
    """Convert to and from the original CLIP architecture with open_clip's own towers."""

    name = "open_clip's CLIP"
    needs: tuple[Need, ...] = (*NATIVE, *TEXT, *ALIKE)
    table = OPEN_CLIP
    zeros: frozenset[str] = frozenset()
    image_only = False
    keeps: frozenset[str] = frozenset()
    note = "open_clip repairs broken Unicode and HTML entities in captions before it tokenizes them; flip does not."
    usage = (
        "import open_clip\n\n"
        'model, _, preprocess = open_clip.create_model_and_transforms("local-dir:{folder}")\n'
        'tokenizer = open_clip.get_tokenizer("local-dir:{folder}")\n'
        "image_features = model.eval().encode_image(preprocess(image)[None], normalize=True)  # a PIL image\n"
        'text_features = model.encode_text(tokenizer(["a photo of a dog"]), normalize=True)'
    )

    def vision(self, params: Params, place: Path) -> dict[str, Any]:
        """Return `vision_cfg` for a model in the folder `place`."""
        model, form = params.model, params.form.vision
        found = blocks(model.vision, form) | {"head_width": model.vision.width // model.vision.heads}
        return found | {"patch_size": model.patch, "image_size": model.image, "no_ln_pre": not form.pre_norm}

    def configuration(self, model: TwoTowers, tokenizer: CaptionTokenizer, place: Path) -> dict[str, Any]:
        """Return `model_cfg` for a model in the folder `place`."""
        params = model.params
        found: dict[str, Any] = {
            "embed_dim": params.embedding,
            "quick_gelu": params.form.text.activation == "quick_gelu",
        }
        found |= {"vision_cfg": self.vision(params, place), "text_cfg": text_configuration(params, tokenizer)}
        return found if model.logit_bias is None else found | {"init_logit_bias": 0.0}

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        theirs = open_clip.CLIP(**self.configuration(model, tokenizer, folder))
        config = self.configuration(model, tokenizer, final)
        facts = {"model_cfg": config, "preprocess_cfg": preprocessing(model.params)}
        write_json(folder / "open_clip_config.json", facts)
        write_atomic(folder / "open_clip_model.safetensors", save(their_weights(self, model, theirs.state_dict())))
        if "hf_tokenizer_name" in config["text_cfg"]:
            write_tokenizer(tokenizer, folder)

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        name = architecture or f"local-dir:{source}"
        check_own_code(get_model_config(name) or {})
        model = open_clip.create_model(name, pretrained=str(source) if architecture else None, require_pretrained=True)
        pixels = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
        tokenizer = open_clip.get_tokenizer(name)
        return Loaded(model.eval(), pixels, model.encode_image, tokenizer, model.encode_text, tokenizer)

    def state(self, loaded: Loaded) -> dict[str, Tensor]:
        return {name.removeprefix("text."): tensor for name, tensor in loaded.model.state_dict().items()}

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict[str, Any]:
        config = get_model_config(architecture or f"local-dir:{source}") or {}
        found = merge(described(loaded, config), self.described_vision(loaded.model.visual))
        stored, captions = stored_tokenizer(loaded.tokenizer, loaded.model.vocab_size)
        return merge(found, {"captions": captions, "tokenizer": stored, "bias": loaded.model.logit_bias is not None})

    def described_vision(self, visual: Any) -> dict[str, Any]:
        """Return our parameters for the image tower."""
        return own_tower(visual)


class OpenClipWithTimm(OpenClip):
    """Convert to and from open_clip models with an image tower of timm, which is loaded from an absolute path."""

    name = "open_clip with an image tower of timm"
    needs = (*timm_models.NEEDS, *TEXT)
    table = OPEN_CLIP_WITH_TIMM
    zeros = frozenset({"visual.trunk.patch_embed.proj.bias"})
    note = "Once the folder is moved, `timm_model_name` in its open_clip_config.json has to say where it is."

    def vision(self, params: Params, place: Path) -> dict[str, Any]:
        form = params.form.vision
        found = {"timm_model_name": f"local-dir:{(place / 'timm').absolute()}", "image_size": params.model.image}
        found |= {"timm_pool": timm_models.POOLING[form.pooling], "timm_proj_bias": form.projection == "affine"}
        return found | {"timm_proj": "none" if form.projection == "none" else "linear"}

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        write_json(folder / "timm" / "config.json", timm_models.configuration(model.params))
        super().write(model, tokenizer, folder, final)

    def described_vision(self, visual: Any) -> dict[str, Any]:
        cfg, head = visual.preprocess_cfg, getattr(visual.head, "proj", None)
        found = timm_models.described(visual.trunk, cfg["mean"], cfg["std"])
        kind = "none" if head is None else "linear" if head.bias is None else "affine"
        return merge(found, {"form": {"vision": {"projection": kind}}})


def kind_of(loaded: Loaded) -> OpenClip:
    """Return the target that describes a loaded model."""
    return (OpenClipWithTimm if isinstance(loaded.model.visual, TimmModel) else OpenClip)()


EXPORTS = (OpenClip, OpenClipWithTimm)
