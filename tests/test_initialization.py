"""Initial weights are drawn as the public implementations draw theirs: tensor by tensor with the same spread and, where
it is cut or uniform, the same ends; the default draws nothing more than it did before there were others."""

from types import SimpleNamespace

import pytest
import torch

from flip.export.names import OPEN_CLIP, TRANSFORMERS_SIGLIP, exported
from flip.losses import build_towers
from flip.model.transformer import initialize
from tests.test_flava import EXPORT, LOSSES, SIZE
from tests.test_forms import CLIP, SIGLIP, VOCABULARY, WIDTH, configs, open_clip_model


def facts(tensor):
    """Standard deviation, and the largest value over it: 1.73 for a uniform tensor, about 3 for a normal one."""
    spread = tensor.detach().double().std(correction=0).item()
    return spread, tensor.abs().max().item() / spread if spread else 0.0


def compare(own, other, but=()):
    """The spread of tensors of many values; what is constant is the same."""
    assert own.keys() == other.keys()
    drawn = 0
    for name in own.keys() - set(but):
        (std, end), (expected, last) = facts(own[name]), facts(other[name])
        if own[name].numel() < 500:
            assert (std == 0) == (expected == 0), name
            continue
        assert std == pytest.approx(expected, rel=0.1), name
        assert (end < 1.9) == (last < 1.9), f"{name}: uniform or not"
        assert (end < 2.4) == (last < 2.4), f"{name}: cut or not"
        drawn += 1
    assert drawn > 10


def fresh(params):
    torch.manual_seed(0)
    return build_towers(params, VOCABULARY)


def test_clip_form_begins_as_open_clip(change):
    """Which left OpenAI's initialization as it was."""
    torch.manual_seed(1)
    compare(exported(OPEN_CLIP, dict(fresh(change("clip", CLIP)).named_parameters())),
            dict(open_clip_model("gelu").named_parameters()))  # fmt: skip


def test_siglip_begins_as_transformers(change):
    """But for what it has otherwise than big_vision, the original: the pooling's attention is of four Xavier-uniform
    matrices, what comes first and last LeCun-normal as in JAX, with a variance of 1 / inputs after the cut; and for
    scale and bias, which the paper gives."""
    from transformers import SiglipConfig, SiglipModel

    settings = configs(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
    settings["text_config"]["projection_size"] = WIDTH
    torch.manual_seed(1)
    other = dict(SiglipModel(SiglipConfig(**settings)).named_parameters())
    own = exported(TRANSFORMERS_SIGLIP, dict((model := fresh(change("clip", SIGLIP))).named_parameters()))
    attention = [f"vision_model.head.attention.{name}" for name in ("in_proj_weight", "out_proj.weight")]
    lecun = ["vision_model.embeddings.patch_embedding.weight", "text_model.head.weight"]
    compare(own, other, ("logit_scale", "logit_bias", *attention, *lecun))
    for name in lecun:
        std, end = facts(own[name])
        assert std == pytest.approx(own[name][0].numel() ** -0.5, rel=0.05)
        assert 2.2 < end < 2.35
    pooling = model.vision.attention_pooling
    for part in (pooling.query.weight, *pooling.keys_values.weight.chunk(2), pooling.out.weight):
        assert part.abs().max().item() == pytest.approx((6 / (2 * WIDTH)) ** 0.5, rel=0.01)


def flava(change, vision, text, multimodal):
    """FLAVA with encoders of one layer and these widths."""
    tower = {"layers": 1, "heads": 1}
    size = {"model": {**SIZE["model"], "vision": {**tower, "width": vision}, "text": {**tower, "width": text}},
            "flava": {"multimodal": {**tower, "width": multimodal}, **dict.fromkeys(LOSSES, 1.0)}}  # fmt: skip
    return change("flava", {**SIZE, **size})


def test_flava_begins_as_transformers(change):
    """At FLAVA's width: every matrix and embedding of all encoders and heads; class tokens, masks and image positions
    at 0."""
    params = flava(change, 768, 768, 768)
    torch.manual_seed(1)
    other = EXPORT.build(params, SimpleNamespace(vocabulary=VOCABULARY, before=[0], after=[0]))
    named = other.named_parameters(remove_duplicate=False)  # a head's bias has two names
    kept = {name: tensor for name, tensor in named if name not in EXPORT.zeros}
    own = exported(EXPORT.table, dict(fresh(params).named_parameters()))
    words = [name for name in kept if name.startswith(("mlm_head.", "mmm_text_head.")) and name.endswith("bias")]
    compare({name: own[name] for name in own.keys() - EXPORT.zeros}, kept, words)  # of the hidden word, never predicted


def test_flava_keeps_the_variance_of_what_matrices_give_at_any_width(change):
    model = fresh(flava(change, 96, 128, 64))
    widths = {"vision": 96, "image_projection": 96, "text": 128, "text_projection": 128, "passes": 64}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and parameter.any():
            embedding = name in ("text.embed.weight", "text.positions.weight")
            gain = 1.0 if embedding else (768 / widths[name.partition(".")[0]]) ** 0.5
            assert parameter.std().item() == pytest.approx(0.02 * gain, rel=0.1), name


def test_captions_and_images_have_features_of_their_own_from_the_start(project):
    """At `tiny`, where all have at most 99.9 % in common: else a contrastive loss finds hardly a gradient. With
    matrices as in encoders of width 768, FLAVA's captions had 99.99 %."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCABULARY, (32, 12), generator=draw)
    ids[:, 0] = 1  # the start token
    side = project.baseline.model.image
    images = torch.randint(256, (32, side, side, 3), generator=draw, dtype=torch.uint8)
    systems = map(project.resolve, project.tables["systems"].variants)
    for params in (one for one in systems if one.aligned):
        model = fresh(params)
        for features in (model.encode_image(images), model.encode_text(ids)):
            unit = torch.nn.functional.normalize(features, dim=-1)
            assert (unit - unit.mean(dim=0)).square().sum(dim=1).mean().item() > 0.001, params.variant


def test_the_default_draws_nothing_more(change):
    """The generator stands where `initialize` alone leaves it, so that later draws are what they were."""
    params = change("clip", {"model": CLIP["model"]})
    model = fresh(params)
    again, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flip.model.two_towers.initialize_model", lambda model: model.apply(initialize))
        plain = build_towers(params, VOCABULARY)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, again[name]) for name, tensor in plain.state_dict().items())
