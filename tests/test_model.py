"""The towers, the decoder and the reconstruction equal public implementations with the same weights; padding and
removed patches have no influence; mask ratio 0 is CLIP bit for bit."""

import pytest
import torch
from torch.func import functional_call

from flip.export.names import TIMM, TRANSFORMERS, WeightPair, exported
from flip.export.transformers_models import VitMaeDecoder
from flip.losses import Setting, build_towers, objectives
from flip.losses.reconstruction import ReconstructionObjective
from flip.model.masking import mask_patches
from flip.model.text import PAD
from flip.model.vision import patchify, sincos_positions, statistics

VOCABULARY = 100
MODEL = {
    "image": 64, "patch": 8, "embedding": 64, "tokens": 32, "vision": {"layers": 4, "width": 96, "heads": 3},
    "text": {"layers": 2, "width": 64, "heads": 2},
}  # fmt: skip


@pytest.fixture
def change(change):
    """As everywhere, but with a model whose sizes do not follow params.yaml."""
    return lambda variant="clip", delta=None: change(variant, {"model": MODEL, **(delta or {})})


def build(params):
    """In float64, with biases and gains away from their initial 0 and 1."""
    torch.manual_seed(0)
    model = build_towers(params, VOCABULARY).double()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def random_images(count, side=64):
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(1)).byte()


def captions(lengths):
    ids = torch.randint(0, VOCABULARY, (len(lengths), 32), generator=torch.Generator().manual_seed(2))
    return ids.masked_fill(torch.arange(32) >= torch.tensor(lengths)[:, None], PAD)


def batch(count=6):
    lengths = [1 + 5 * i % 32 for i in range(count)]
    return {"images": random_images(count), "ids": captions(lengths), "positions": torch.arange(50, 50 + count)}


def part(table, theirs, ours):
    """The pairs of a table that are about a part of the models, under the names that it has by itself."""
    cut = lambda names, prefix: tuple(name.removeprefix(prefix) for name in names)  # noqa: E731
    chosen = [pair for pair in table if pair.theirs[0].startswith(theirs) and pair.ours[0].startswith(ours)]
    return [WeightPair(cut(pair.theirs, theirs), cut(pair.ours, ours), pair.layout) for pair in chosen]


def test_vision_tower_equals_timm(change):
    from timm.models.vision_transformer import VisionTransformer

    tower = build(change()).vision
    theirs = VisionTransformer(
        img_size=64, patch_size=8, embed_dim=96, depth=4, num_heads=3, class_token=False, global_pool="avg",
        fc_norm=False, num_classes=0, pre_norm=False,
    ).double()  # fmt: skip
    weights = {f"vision.{name}": tensor for name, tensor in tower.state_dict().items()}
    theirs.load_state_dict(exported(TIMM, weights | {"vision.positions": tower.positions}))
    images = random_images(3)
    pixels = (images.double() - tower.mean[:3]) / tower.std[:3]
    torch.testing.assert_close(tower(images), theirs.forward_features(pixels.permute(0, 3, 1, 2)), rtol=1e-6, atol=1e-8)


def test_text_tower_equals_transformers(change):
    from transformers import SiglipTextConfig
    from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

    tower = build(change()).text
    config = SiglipTextConfig(
        hidden_size=64, intermediate_size=256, num_attention_heads=2, hidden_act="gelu", attn_implementation="sdpa"
    )
    ids = captions([1, 5, 32, 17])
    valid = ids != PAD
    x = tower.embed(ids.clamp(min=0)) + tower.positions.weight
    mask = torch.zeros(4, 1, 32, 32, dtype=torch.float64).masked_fill(~valid[:, None, None, :], -torch.inf)
    table, weights = part(TRANSFORMERS, "text_model.encoder.layers.", "text."), tower.state_dict()
    stack = torch.nn.ModuleList(SiglipEncoderLayer(config) for _ in tower.transformer.blocks).double()
    stack.load_state_dict(exported(table, weights))
    for theirs in stack:
        theirs.layer_norm1.eps = theirs.layer_norm2.eps = 1e-6
        x = theirs(x, attention_mask=mask)
        x = x[0] if isinstance(x, tuple) else x
    x = tower.transformer.norm(x) * valid[:, :, None]
    torch.testing.assert_close(tower(ids), x.sum(1) / valid.sum(1, keepdim=True), rtol=1e-6, atol=1e-8)


def test_positions_equal_transformers():
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    torch.testing.assert_close(sincos_positions(96, 8), build_2d_sinusoidal_position_embedding(8, 8, 96))


@pytest.mark.parametrize("normalize", [True, False])
def test_reconstruction_equals_transformers_vitmae(change, normalize):
    """Their whole model gives pixels, mask and loss; ours gives the same loss for the same pixels and mask."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    params = change("flip-75-mae", {"reconstruction": {"normalize": normalize, "weight": 0.5}})
    config = ViTMAEConfig(
        image_size=64, patch_size=8, norm_pix_loss=normalize, hidden_size=32, num_hidden_layers=1, intermediate_size=64,
        num_attention_heads=2, decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
    )  # fmt: skip
    images = random_images(4)
    mean, std = statistics(params.form.vision)
    pixels = ((images - mean) / std).permute(0, 3, 1, 2)
    theirs = ViTMAEForPreTraining(config).double()(pixels)
    outputs = {"prediction": theirs.logits, "removed": theirs.mask.bool()}
    loss = ReconstructionObjective(Setting(params))({"images": images}, outputs)["reconstruction"]
    torch.testing.assert_close(loss.double(), 0.5 * theirs.loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_mae_with_a_class_token_equals_transformers_vitmae(change, normalize):
    """Encoder, mask, decoder and loss of their whole model, with our weights by the table of the export: loss and every
    gradient."""
    params = change("mae-class", {"reconstruction": {"normalize": normalize}})
    model, target, images = build(params), VitMaeDecoder(), random_images(4)
    own = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    fixed = {"vision.positions": model.vision.positions, "decoder.positions": model.decoder.positions}
    theirs, given = target.build(params, None).double(), exported(target.table, own | fixed)
    assert given.keys() == theirs.state_dict().keys()
    noise = mask_patches(0, torch.arange(4), 64, 16).ids_restore.double()
    pixels = ((images - model.vision.mean[:3]) / model.vision.std[:3]).permute(0, 3, 1, 2)
    expected = functional_call(theirs, given, (pixels, noise)).loss
    batch = {"images": images, "positions": torch.arange(4), "ids": torch.zeros(4, 1)}
    objective = ReconstructionObjective(Setting(params))
    objective.targets.mean, objective.targets.std = (x.double() for x in (model.vision.mean, model.vision.std))
    loss = objective(batch, model(batch, 0))["reconstruction"]
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    loss.backward()
    expected.backward()
    for name, parameter in model.named_parameters():
        largest = own[name].grad.abs().max().item()
        atol = 1e-9 * max(largest, 1e-3)  # keys' biases have no influence
        torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-6, atol=atol)


def test_decoder_puts_each_patch_back(change):
    """With kept patches as they are and no blocks in between, what comes out at a place is what was kept there."""
    model = build(change("flip-75-mae"))
    decoder = model.decoder
    decoder.transformer = torch.nn.Identity()
    order = mask_patches(0, torch.arange(3), 64, 16)
    encoded = torch.randn(3, 16, 96, dtype=torch.float64)
    pixels = decoder.decode(encoded, order.ids_restore)
    expected = decoder.predict(decoder.embed(encoded) + decoder.positions[order.ids_keep])
    torch.testing.assert_close(pixels.take_along_dim(order.ids_keep[:, :, None], 1), expected)


def test_mask_ratio_zero_is_clip_bit_for_bit(change):
    """One code path: a kept set of all patches in their order gives the very same bits."""
    model = build_towers(change("clip"), VOCABULARY)
    images = random_images(4)
    everything = torch.arange(64).expand(4, 64)
    assert torch.equal(model.encode_image(images), model.encode_image(images, everything))
    assert [type(o).__name__ for o in objectives(Setting(change("clip")))] == ["ContrastiveObjective"]
    assert model.decoder is None


def test_removed_patches_have_no_influence(change):
    params = change("flip-50")
    model = build_towers(params, VOCABULARY)
    images = random_images(4)
    order = mask_patches(0, torch.arange(4), 64, 32)
    removed = (order.ids_restore >= 32).unflatten(1, (8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    painted = images.clone()
    painted[removed] = 255 - painted[removed]
    assert torch.equal(model.encode_image(images, order.ids_keep), model.encode_image(painted, order.ids_keep))
    assert not torch.equal(model.encode_image(images), model.encode_image(painted))


def test_padding_has_no_influence(change):
    """The same caption alone, beside longer ones, and with more padding slots gives the same feature."""
    model = build(change())
    ids = captions([7, 32, 3])
    alone = model.encode_text(ids[:1, :7])
    torch.testing.assert_close(model.encode_text(ids)[:1], alone, rtol=1e-12, atol=1e-14)


def test_no_gradient_from_padding_and_empty_captions(change):
    model = build(change())
    model.encode_text(captions([3, 0, 5])).sum().backward()
    gradient = model.text.positions.weight.grad
    assert gradient.isfinite().all()
    assert (gradient[5:] == 0).all()
    assert (gradient[:5] != 0).any(dim=1).all()
    assert (model.encode_text(captions([0, 0])) == 0).all()


def test_patchify_reads_row_by_row():
    image = torch.arange(4 * 4 * 3).reshape(1, 4, 4, 3)
    first = patchify(image, 2)[0, 1]
    assert first.tolist() == [*range(6, 12), *range(18, 24)]


@pytest.mark.parametrize(
    ("model", "vision", "text", "total"),
    [("b16", 86, 53, 141), ("l16", 303, 109, 414), ("l14", 303, 109, 414), ("h14", 631, 334, 967)],
)
def test_sizes_are_those_of_table_9(project, model, vision, text, total):
    """Millions of parameters with BERT's vocabulary, without allocating them."""
    tree = project.tree
    params = project.resolve("clip").model_copy(
        update={"model": type(project.resolve("clip").model)(**tree["models"][model])}
    )
    with torch.device("meta"):
        towers = build_towers(params, 30523)
    count = lambda module: sum(p.numel() for p in module.parameters()) / 1e6  # noqa: E731
    fixed = towers.vision.positions.numel() / 1e6  # the paper counts positions
    assert count(towers.vision) + fixed == pytest.approx(vision, rel=0.01)
    assert count(towers.text) == pytest.approx(text, rel=0.01)
    assert count(towers) + fixed == pytest.approx(total, rel=0.01)
