"""Map our weights to those of open_clip, timm and transformers: one table per model, read in both directions.

A table is a list of pairs (their names, our names, layout). `{}` stands for the number of a block. A pair applies if
all its names of ours exist and no earlier pair has used one of them.
"""

from collections.abc import Container
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from flip.export.layouts import (
    CLASS,
    CLASS_ROW,
    FIRST_ROW,
    KERNEL,
    NO_MASK,
    NO_MASK_BIAS,
    ROW,
    SAME,
    STACKED,
    THREE,
    TOKEN,
    TRANSPOSED,
    TWICE,
    WORDS,
    TensorLayout,
)


@dataclass(frozen=True)
class WeightPair:
    """Hold the names of weights that correspond, and how the tensors are converted."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    layout: TensorLayout = SAME


def pair(theirs: str, ours: str, layout: TensorLayout = SAME) -> WeightPair:
    """Return a pair; several names are separated by spaces."""
    return WeightPair(tuple(theirs.split()), tuple(ours.split()), layout)


def module(theirs: str, ours: str, layout: TensorLayout = SAME) -> list[WeightPair]:
    """Return the pairs for weight and bias of a module; several modules are separated by spaces."""
    suffixed = lambda names, kind: tuple(f"{name}.{kind}" for name in names.split())  # noqa: E731
    return [WeightPair(suffixed(theirs, kind), suffixed(ours, kind), layout) for kind in ("weight", "bias")]


def modules(theirs: str, ours: str, names: dict[str, str]) -> list[WeightPair]:
    """Return the pairs for modules below `theirs` and `ours`; `names` maps their names to ours."""
    return [one for name, own in names.items() for one in module(f"{theirs}{name}", f"{ours}{own}")]


def blocks(theirs: str, ours: str, names: dict[str, str]) -> list[WeightPair]:
    """Return the pairs for modules of a transformer's blocks."""
    return modules(f"{theirs}.{{}}.", f"{ours}.blocks.{{}}.", names)


def below(prefix: str, table: list[WeightPair]) -> list[WeightPair]:
    """Return the table of a model that is a part of another one, under a prefix of their names."""
    return [WeightPair(tuple(prefix + name for name in one.theirs), one.ours, one.layout) for one in table]


def applied(table: list[WeightPair], ours: Container[str]) -> list[WeightPair]:
    """Return the pairs that apply to a model with these names, with the numbers of blocks filled in."""
    taken: set[str] = set()
    found: list[WeightPair] = []
    for one in table:
        for number in count() if "{}" in one.ours[0] else (0,):
            theirs, names = (tuple(name.format(number) for name in side) for side in (one.theirs, one.ours))
            if not all(name in ours for name in names):
                break
            if taken.isdisjoint(names):
                taken.update(names)
                found.append(WeightPair(theirs, names, one.layout))
    return found


def exported(table: list[WeightPair], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert our weights to theirs; weights that the table does not name are left out."""
    found: dict[str, Tensor] = {}
    for one in applied(table, ours):
        found |= zip(one.theirs, one.layout.there(*(ours[name] for name in one.ours)), strict=True)
    return found


def imported(
    table: list[WeightPair], theirs: dict[str, Tensor], wanted: Container[str], where: str
) -> dict[str, Tensor]:
    """Convert their weights to ours, for a model with the names `wanted`; `where` is for messages.

    Raises:
        ValueError: they have weights that we have no counterpart of, or lack some.
    """
    pairs = applied(table, wanted)
    named = {name for one in pairs for name in one.theirs}
    problems = {"lacks": named - theirs.keys(), "has no place here for": theirs.keys() - named}
    shown = {what: f"{len(names)} weights: {', '.join(sorted(names)[:4])}" for what, names in problems.items() if names}
    if faults := [f"{what} {names}" for what, names in shown.items()]:
        raise ValueError(f"{where}: {'; '.join(faults)}")
    found: dict[str, Tensor] = {}
    for one in pairs:
        found |= zip(one.ours, one.layout.back(*(theirs[name].float() for name in one.theirs)), strict=True)
    return found


OPEN_CLIP_BLOCK = {"ln_1": "norm1", "attn.out_proj": "attention.out", "ln_2": "norm2", "mlp.c_fc": "mlp.0"}
OPEN_CLIP_BLOCK |= {"mlp.c_proj": "mlp.2"}
TIMM_BLOCK = {"norm1": "norm1", "attn.qkv": "attention.qkv", "attn.proj": "attention.out", "norm2": "norm2"}
TIMM_BLOCK |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
CLIP_BLOCK = {"layer_norm1": "norm1", "self_attn.out_proj": "attention.out", "layer_norm2": "norm2"}
CLIP_BLOCK |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
VITMAE_BLOCK = {"layernorm_before": "norm1", "attention.o_proj": "attention.out", "layernorm_after": "norm2"}
VITMAE_BLOCK |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}


def open_clip_tower(theirs: str, ours: str) -> list[WeightPair]:
    """Return the pairs for the blocks of open_clip's own transformer."""
    first, own = f"{theirs}.{{}}.attn.in_proj_", f"{ours}.blocks.{{}}.attention.qkv."
    attention = [pair(f"{first}{kind}", f"{own}{kind}") for kind in ("weight", "bias")]
    return attention + blocks(theirs, ours, OPEN_CLIP_BLOCK)


def three_projections(theirs: str, ours: str) -> list[WeightPair]:
    """Return the pairs for attention with separate query, key and value; `*` stands for one of q, k and v."""
    names = " ".join(f"{theirs.replace('*', letter)}" for letter in "qkv")
    return module(names, f"{ours}.blocks.{{}}.attention.qkv", THREE)


OPEN_CLIP_TEXT = [
    pair("token_embedding.weight", "text.embed.weight"),
    pair("positional_embedding", "text.positions.weight"),
    *open_clip_tower("transformer.resblocks", "text.transformer"),
    *module("ln_final", "text.transformer.norm"),
    pair("text_projection.weight text_projection.bias", "text_projection.weight text_projection.bias"),
    pair("text_projection", "text_projection.weight", TRANSPOSED),
]
LOGITS = [pair("logit_scale", "log_scale"), pair("logit_bias", "logit_bias")]

OPEN_CLIP = [
    *LOGITS,
    pair("visual.conv1.weight", "vision.embed.weight", KERNEL),
    pair("visual.class_embedding visual.positional_embedding", "vision.class_token vision.positions", CLASS),
    *module("visual.ln_pre", "vision.pre_norm"),
    *open_clip_tower("visual.transformer.resblocks", "vision.transformer"),
    *module("visual.ln_post", "vision.transformer.norm"),
    pair("visual.proj", "image_projection.weight", TRANSPOSED),
    *OPEN_CLIP_TEXT,
]

TIMM = [
    *module("patch_embed.proj", "vision.embed", KERNEL)[:1],
    pair("patch_embed.proj.bias", "vision.embed.bias"),
    pair("cls_token pos_embed", "vision.class_token vision.positions", CLASS_ROW),
    pair("pos_embed", "vision.positions", ROW),
    *module("norm_pre", "vision.pre_norm"),
    *blocks("blocks", "vision.transformer", TIMM_BLOCK),
    *module("norm", "vision.transformer.norm"),
    pair("attn_pool.latent", "vision.attention_pooling.probe", TOKEN),
    *modules(
        "attn_pool.", "vision.attention_pooling.",
        {"q": "query", "kv": "keys_values", "proj": "out", "norm": "norm", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"},
    ),
]  # fmt: skip

OPEN_CLIP_WITH_TIMM = [
    *LOGITS,
    *below("visual.trunk.", TIMM),
    *module("visual.head.proj", "image_projection"),
    *OPEN_CLIP_TEXT,
]


def transformers_tower(tower: str) -> list[WeightPair]:
    """Return the pairs for the blocks of a tower of CLIPModel or SiglipModel."""
    theirs, ours = f"{tower}_model.encoder.layers", f"{tower}.transformer"
    return three_projections(f"{theirs}.{{}}.self_attn.*_proj", ours) + blocks(theirs, ours, CLIP_BLOCK)


TRANSFORMERS = [  # names that CLIP and SigLIP share
    pair("vision_model.embeddings.patch_embedding.weight", "vision.embed.weight", KERNEL),
    *transformers_tower("vision"),
    *module("vision_model.post_layernorm", "vision.transformer.norm"),
    pair("text_model.embeddings.token_embedding.weight", "text.embed.weight"),
    pair("text_model.embeddings.position_embedding.weight", "text.positions.weight"),
    *transformers_tower("text"),
    *module("text_model.final_layer_norm", "text.transformer.norm"),
]

TRANSFORMERS_CLIP = [
    *TRANSFORMERS,
    pair("logit_scale", "log_scale"),
    pair(
        "vision_model.embeddings.class_embedding vision_model.embeddings.position_embedding.weight",
        "vision.class_token vision.positions",
        CLASS,
    ),
    *module("vision_model.pre_layrnorm", "vision.pre_norm"),
    pair("visual_projection.weight", "image_projection.weight"),
    pair("text_projection.weight", "text_projection.weight"),
]

HEAD, POOLING = "vision_model.head", "vision.attention_pooling"
TRANSFORMERS_SIGLIP = [
    *TRANSFORMERS,
    pair("logit_scale", "log_scale", ROW),
    pair("logit_bias", "logit_bias", ROW),
    pair("vision_model.embeddings.patch_embedding.bias", "vision.embed.bias"),
    pair("vision_model.embeddings.position_embedding.weight", "vision.positions"),
    pair(f"{HEAD}.probe", f"{POOLING}.probe", TOKEN),
    *(
        pair(f"{HEAD}.attention.in_proj_{kind}", f"{POOLING}.query.{kind} {POOLING}.keys_values.{kind}", STACKED)
        for kind in ("weight", "bias")
    ),
    *modules(
        f"{HEAD}.", f"{POOLING}.",
        {"attention.out_proj": "out", "layernorm": "norm", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"},
    ),
    *module("text_model.head", "text_projection"),
]  # fmt: skip

VITMAE = [
    *module("embeddings.patch_embeddings.projection", "vision.embed", KERNEL)[:1],
    pair("embeddings.patch_embeddings.projection.bias", "vision.embed.bias"),
    pair("embeddings.cls_token embeddings.position_embeddings", "vision.class_token vision.positions", CLASS_ROW),
    *three_projections("layers.{}.attention.*_proj", "vision.transformer"),
    *blocks("layers", "vision.transformer", VITMAE_BLOCK),
    *module("layernorm", "vision.transformer.norm"),
]

DECODER = "decoder"
VITMAE_DECODER = [
    *below("vit.", VITMAE),
    *modules(f"{DECODER}.decoder_", f"{DECODER}.", {"embed": "embed", "norm": "transformer.norm", "pred": "predict"}),
    pair(f"{DECODER}.mask_token", f"{DECODER}.mask_token", TOKEN),
    pair(f"{DECODER}.decoder_pos_embed", f"{DECODER}.positions", FIRST_ROW),
    *three_projections(f"{DECODER}.decoder_layers.{{}}.attention.*_proj", f"{DECODER}.transformer"),
    *blocks(f"{DECODER}.decoder_layers", f"{DECODER}.transformer", VITMAE_BLOCK),
]

PASS, IMAGE, TEXT = "passes.flava", "image_model.embeddings", "text_model.embeddings"
FLAVA_TOWERS = {"image": "vision", "text": "text", "multimodal": f"{PASS}.multimodal"}
FLAVA_BLOCK = {"layernorm_before": "norm1", "attention.output.dense": "attention.out", "layernorm_after": "norm2"}
FLAVA_BLOCK |= {"intermediate.dense": "mlp.0", "output.dense": "mlp.2"}


def flava_tower(side: str, ours: str) -> list[WeightPair]:
    """Return the pairs for the blocks of an encoder of FLAVA."""
    layer = f"{side}_model.encoder.layer"
    names = " ".join(f"{layer}.{{}}.attention.attention.{name}" for name in ("query", "key", "value"))
    attention = module(names, f"{ours}.transformer.blocks.{{}}.attention.qkv", THREE)
    return (
        attention
        + blocks(layer, f"{ours}.transformer", FLAVA_BLOCK)
        + module(f"{side}_model.layernorm", f"{ours}.transformer.norm")
    )


FLAVA = [
    pair("logit_scale", "log_scale"),
    pair(f"{IMAGE}.mask_token", f"{PASS}.patch_mask", TOKEN),
    pair(f"{IMAGE}.cls_token {IMAGE}.position_embeddings", "vision.class_token vision.positions", CLASS_ROW),
    *module(f"{IMAGE}.patch_embeddings.projection", "vision.embed", KERNEL)[:1],
    pair(f"{IMAGE}.patch_embeddings.projection.bias", "vision.embed.bias"),
    pair(f"{TEXT}.word_embeddings.weight", f"text.embed.weight {PASS}.word_mask", WORDS),
    pair(f"{TEXT}.word_embeddings.weight", "text.embed.weight"),  # of a model without masked tokens
    pair(f"{TEXT}.position_embeddings.weight", "text.positions.weight"),
    *module(f"{TEXT}.LayerNorm", "text.embedding_norm"),
    pair("multimodal_model.cls_token", f"{PASS}.multimodal.class_token", TOKEN),
    *(one for side, ours in FLAVA_TOWERS.items() for one in flava_tower(side, ours)),
    *modules("", "", {f"{side}_projection": f"{side}_projection" for side in ("image", "text")}),
    *modules("", f"{PASS}.multimodal.", {f"{side}_to_mm_projection": f"from_{side}" for side in ("image", "text")}),
]


def flava_head(name: str, weight: TensorLayout, bias: TensorLayout) -> list[WeightPair]:
    """Return the pairs for a head that predicts masked patches or tokens; its bias has two names in their model."""
    theirs, ours = f"{name}_head", f"{PASS}.heads.{name}"
    found = modules(f"{theirs}.transform.", f"{ours}.", {"dense": "0", "LayerNorm": "2"})
    found.append(pair(f"{theirs}.decoder.weight", f"{ours}.3.weight", weight))
    return [*found, pair(f"{theirs}.bias {theirs}.decoder.bias", f"{ours}.3.bias", bias)]


FLAVA_PRETRAINING = [
    *below("flava.", FLAVA),
    *(one for name in ("mim", "mmm_image") for one in flava_head(name, SAME, TWICE)),
    *(one for name in ("mlm", "mmm_text") for one in flava_head(name, NO_MASK, NO_MASK_BIAS)),
    *modules("itm_head.", f"{PASS}.heads.itm.", {"pooler.dense": "0", "seq_relationship": "2"}),
]
