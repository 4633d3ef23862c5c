"""FLAVA's losses and gradients equal transformers' with the same weights and masks; its masks hit their shares and hide
no start, end or padding; what is hidden nowhere costs 0; mismatched captions leave the contrastive loss alone; and no
loss depends on how its batch is split."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from flip.model.masked import block_masks, word_masks
from flip.model.text import PAD
from flip.model.two_towers import TwoTowers
from flip.objectives import named_losses, objectives
from flip.schema import Captions
from flip.train.distributed import World
from flip.train.targets import Targets
from tests.conftest import SMALL
from tests.test_forms import check_gradients, convolution, copy, modules, pixels, rows, same
from tests.test_model import MODEL, captions, pictures
from tests.test_train import advance, make_run, weights

WIDTH, VOCABULARY, CODES, WORDS = 48, 100, 40, 9
SIZE = {
    "model": {**MODEL, "vision": {"layers": 2, "width": WIDTH, "heads": 3}, "embedding": WIDTH,
              "text": {"layers": 2, "width": WIDTH, "heads": 3}},
    "flava": {"multimodal": {"layers": 2, "width": WIDTH, "heads": 3}},
    "codebook": {"codes": CODES},
}  # fmt: skip
LOSSES = ("mim", "mlm", "mmm_image", "mmm_text", "itm")


MASK = VOCABULARY - 1  # their hidden word


@pytest.fixture(scope="session")
def system(change):
    """system(itm=1.0): parameters of FLAVA in the size of these tests, with these weights."""

    def made(variant="flava-c", **flava):
        return change(variant, {**SIZE, "flava": {**SIZE["flava"], **flava}})

    return made


def build(params):
    """In float64, with biases and gains away from their initial 0 and 1."""
    torch.manual_seed(0)
    model = TwoTowers(params, VOCABULARY).double()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def batch(mismatched=(), pairs=5, seed=0):
    """Captions that fill as many slots each, and what is hidden."""
    draw = torch.Generator().manual_seed(seed)
    ids, words = (torch.randint(1, MASK, (pairs, WORDS), generator=draw) for _ in range(2))
    wrong = torch.zeros(pairs, dtype=torch.bool)
    wrong[list(mismatched)] = True
    return {
        "images": pictures(pairs),
        "ids": ids,
        "positions": torch.arange(pairs),
        "words": torch.where(wrong[:, None], words, ids),
        "mismatched": wrong,
        "masked_patches": torch.rand(pairs, 64, generator=draw) < 0.4,
        "masked_words": torch.rand(pairs, WORDS, generator=draw) < 0.3,
        "codes": torch.randint(CODES, (pairs, 64), generator=draw),
    }


def losses(params, model, data):
    """Ours, each with the factors that follow from what is hidden."""
    factors = Targets(params, None, 0, World())._factors(data)
    data = data | {name: factor.double() for name, factor in factors.items()}
    return named_losses(objectives(params), data, model(data, 0))


class NoTypes(torch.nn.Module):
    """One kind of segment only, which the positions may as well hold."""

    def forward(self, _):
        return 0.0


def theirs():
    """transformers' model of the same size, without what none of its losses reads."""
    from transformers import FlavaConfig, FlavaForPreTraining

    tower = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 4 * WIDTH}
    config = FlavaConfig(
        image_config={**tower, "image_size": MODEL["image"], "patch_size": MODEL["patch"], "vocab_size": CODES},
        text_config={**tower, "vocab_size": VOCABULARY, "max_position_embeddings": MODEL["tokens"]},
        multimodal_config=tower,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        init_codebook=False,
    )
    model = FlavaForPreTraining(config).double()
    for name in ("image_model", "text_model", "multimodal_model"):
        getattr(model.flava, name).pooler = torch.nn.Identity()
    model.flava.text_model.embeddings.token_type_embeddings = NoTypes()
    return model


def flava_block(theirs, ours):
    attention = []
    for i, name in enumerate(("query", "key", "value")):
        part = rows(slice(i * WIDTH, (i + 1) * WIDTH))
        for kind in ("weight", "bias"):
            attention.append(
                (f"{theirs}.attention.attention.{name}.{kind}", same, f"{ours}.attention.qkv.{kind}", part)
            )
    names = {"layernorm_before": "norm1", "attention.output.dense": "attention.out", "layernorm_after": "norm2"}
    names |= {"intermediate.dense": "mlp.0", "output.dense": "mlp.2"}
    return attention + [one for name, own in names.items() for one in modules(f"{theirs}.{name}", f"{ours}.{own}")]


def head_map(theirs, ours):
    pairs = [(f"{theirs}.bias", same, f"{ours}.3.bias", same)]
    pairs += [(f"{theirs}.decoder.weight", same, f"{ours}.3.weight", same)]
    return (
        pairs
        + modules(f"{theirs}.transform.dense", f"{ours}.0")
        + modules(f"{theirs}.transform.LayerNorm", f"{ours}.2")
    )


def flava_map():
    image, text, own = "flava.image_model.embeddings", "flava.text_model.embeddings", "passes.flava"
    pairs = [
        ("flava.logit_scale", same, "log_scale", same),
        (f"{image}.cls_token", same, "vision.class_token", same),
        (f"{image}.mask_token", same, f"{own}.patch_mask", same),
        (f"{image}.position_embeddings", lambda x: x[0, 1:], "vision.positions", same),
        (f"{image}.patch_embeddings.projection.weight", same, "vision.embed.weight", convolution),
        (f"{image}.patch_embeddings.projection.bias", same, "vision.embed.bias", same),
        (f"{text}.word_embeddings.weight", rows(slice(MASK)), "text.embed.weight", rows(slice(MASK))),
        (f"{text}.word_embeddings.weight", rows(MASK), f"{own}.word_mask", same),
        (f"{text}.position_embeddings.weight", same, "text.positions.weight", same),
        ("flava.multimodal_model.cls_token", same, f"{own}.multimodal.class_token", same),
    ]
    names = {f"{text}.LayerNorm": "text.embedding_norm", "itm_head.pooler.dense": f"{own}.heads.itm.0"}
    names |= {"itm_head.seq_relationship": f"{own}.heads.itm.2"}
    names |= {f"flava.{side}_projection": f"{side}_projection" for side in ("image", "text")}
    names |= {f"flava.{side}_to_mm_projection": f"{own}.multimodal.from_{side}" for side in ("image", "text")}
    towers = {"image": "vision", "text": "text", "multimodal": f"{own}.multimodal"}
    names |= {f"flava.{side}_model.layernorm": f"{tower}.transformer.norm" for side, tower in towers.items()}
    for name, ours in names.items():
        pairs += modules(name, ours)
    for side, tower in towers.items():
        for layer in range(2):
            pairs += flava_block(f"flava.{side}_model.encoder.layer.{layer}", f"{tower}.transformer.blocks.{layer}")
    for name in LOSSES[:-1]:
        pairs += head_map(f"{name}_head", f"{own}.heads.{name}")
    return pairs


def their_losses(model, other, data):
    """On pairs, then on pictures alone, then on captions alone, as their model computes its six losses."""
    masked = {"input_ids_masked": torch.where(data["masked_words"], MASK, data["words"])}
    masked |= {"mlm_labels": torch.where(data["masked_words"], data["words"], -100)}
    image = {"pixel_values": pixels(model, data["images"]), "bool_masked_pos": data["masked_patches"]}
    found = {}
    for one in (
        {"input_ids": data["words"], **masked, **image, "itm_labels": (~data["mismatched"]).long()},
        image,
        {"input_ids": data["words"], **masked},
    ):
        if "pixel_values" in one:
            one |= {"mim_labels": data["codes"].clone()}  # they write into it
        seen = other(**{k: v.clone() for k, v in one.items()}, return_loss=True).loss_info
        found |= {name: loss for name, loss in seen.items() if loss is not None}
    return {"contrastive": found.pop("global_contrastive"), **found}


@pytest.mark.parametrize("mismatched", [(), (1, 2), range(5)], ids=["all match", "some do", "none does"])
def test_losses_and_gradients_equal_transformers(system, mismatched):
    """Mismatched captions take no part in our contrastive loss, so that it is compared where all match."""
    weight = {name: 1.0 for name in LOSSES}
    params = system(**weight)
    model, other, data = build(params), theirs(), batch(mismatched)
    copy(model, other, flava_map())
    found, expected = losses(params, model, data), their_losses(model, other, data)
    assert found.keys() == expected.keys() == {"contrastive", *LOSSES}
    if mismatched:
        found.pop("contrastive")
        expected.pop("contrastive")
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-9, atol=0)
    sum(found.values()).backward()
    sum(expected.values()).backward()
    none = {"log_scale", "image_projection", "text_projection"} if mismatched else set()
    check_gradients(model, other, [pair for pair in flava_map() if pair[2].split(".")[0] not in none])
