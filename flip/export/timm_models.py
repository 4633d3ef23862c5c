"""Export the image tower as a timm model, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.export.names import TIMM
from flip.export.target import IMAGE_TOWER, Loaded, Need, their_weights
from flip.files import write_atomic, write_json
from flip.model.two_towers import TwoTowers

POOLING = {"class": "token", "mean": "avg", "map": "map", "max": "max"}
# A configuration file cannot state LayerNorm's epsilon: it is part of the architecture.
ARCHITECTURES = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
NEEDS = (
    IMAGE_TOWER,
    Need("form.vision.norm_epsilon", tuple(ARCHITECTURES), "timm's architectures have one of these"),
    Need(
        "form.vision.patch_bias",
        (False,),
        "timm's patch projection has no bias where a LayerNorm follows it",
        lambda params: params.form.vision.pre_norm,
    ),
)


def configuration(params: Params) -> dict[str, Any]:
    """Return the content of config.json: architecture, changes to it, and preprocessing (as to_square)."""
    model, form, side = params.model, params.form.vision, params.model.image
    sizes = {"img_size": side, "patch_size": model.patch, "embed_dim": model.vision.width}
    sizes |= {"depth": model.vision.layers, "num_heads": model.vision.heads}
    args = {
        "class_token": form.pooling == "class",
        "global_pool": POOLING[form.pooling],
        "fc_norm": False,
    }
    args |= {"pre_norm": form.pre_norm, "act_layer": form.activation, "num_classes": 0}
    pretrained = {
        "input_size": [3, side, side],
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    }
    pretrained |= {"crop_mode": "center", "mean": list(form.mean), "std": list(form.std), "num_classes": 0}
    pretrained |= {"pool_size": None, "first_conv": "patch_embed.proj", "classifier": "head"}
    return {
        "architecture": ARCHITECTURES[form.norm_epsilon],
        "num_classes": 0,
        "num_features": model.vision.width,
        "global_pool": args["global_pool"],
        "model_args": sizes | args,
        "pretrained_cfg": pretrained,
    }


def activation(module: nn.Module) -> str:
    """Return our name of an activation module of timm or open_clip.

    Raises:
        ValueError: it is not supported.
    """
    kind = type(module).__name__
    if kind == "GELU":
        return "gelu_tanh" if getattr(module, "approximate", "none") == "tanh" else "gelu"
    known = {"GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu"}
    if kind not in known:
        raise ValueError(f"its activation is {kind}; allowed: {', '.join(['GELU', *known])}")
    return known[kind]


def described(trunk: nn.Module, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Return our parameters for a timm model: `model` and `form` of the image tower.

    Raises:
        ValueError: it is no plain vision transformer.
    """
    if not isinstance(trunk, VisionTransformer) or not isinstance(trunk.patch_embed, PatchEmbed):
        raise ValueError(
            f"its image tower is a {type(trunk).__name__}; allowed: timm's VisionTransformer over plain patches"
        )
    pooling = {theirs: ours for ours, theirs in POOLING.items()}
    if trunk.global_pool not in pooling:
        raise ValueError(f"its pooling is '{trunk.global_pool}'; allowed: {', '.join(pooling)}")
    blocks: Any = trunk.blocks
    block, side = blocks[0], trunk.patch_embed.img_size[0]
    size = {"layers": len(blocks), "width": trunk.embed_dim, "heads": block.attn.num_heads}
    form: dict[str, Any] = {"pooling": pooling[trunk.global_pool], "positions": "learned", "projection": "none"}
    form |= {"pre_norm": isinstance(trunk.norm_pre, nn.LayerNorm), "norm_epsilon": block.norm1.eps}
    form |= {"patch_bias": trunk.patch_embed.proj.bias is not None, "activation": activation(block.mlp.act)}
    form |= {"mean": list(mean), "std": list(std)}
    model = {"image": side, "patch": trunk.patch_embed.patch_size[0], "vision": size}
    return {"model": model, "form": {"vision": form}}


class Timm:
    """Implement the target (flip.export.target.Target) timm."""

    name = "timm's VisionTransformer"
    needs: tuple[Need, ...] = NEEDS
    table = TIMM
    zeros = frozenset({"patch_embed.proj.bias"})
    image_only = True
    keeps: frozenset[str] = frozenset()
    note = ""
    usage = (
        "import timm\n\n"
        'model = timm.create_model("local-dir:{folder}", pretrained=True).eval()\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n"
        "image_features = model(transform(image)[None])  # a PIL image in RGB; pooled features"
    )

    def write(self, model: TwoTowers, tokenizer: CaptionTokenizer, folder: Path, final: Path) -> None:
        config = configuration(model.params)
        theirs = timm.create_model(config["architecture"], **config["model_args"])
        write_json(folder / "config.json", config)
        write_atomic(folder / "model.safetensors", save(their_weights(self, model, theirs.state_dict())))

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        model: Any  # whose type has what all of timm's models have
        if architecture:
            model = timm.create_model(architecture, checkpoint_path=str(source))
        else:
            model = timm.create_model(f"local-dir:{source}", pretrained=True)
        model.reset_classifier(0)
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        return Loaded(model.eval(), lambda image: transform(image.convert("RGB")), model)

    def state(self, loaded: Loaded) -> dict[str, Tensor]:
        return loaded.model.state_dict()

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict[str, Any]:
        data = timm.data.resolve_model_data_config(loaded.model)
        return described(loaded.model, data["mean"], data["std"])


EXPORTS = (Timm,)
