"""The variants clip-form and siglip equal public implementations with the same weights, in embeddings, loss and
every gradient, parameter by parameter with none left over; FLIP's form is what it was before there were others."""

import math

import pytest
import torch

from flip.config.resolve import read_project
from flip.config.schema import Tower, VisionForm
from flip.config.tree import read_tree
from flip.export.names import OPEN_CLIP, TIMM, TRANSFORMERS_CLIP, TRANSFORMERS_SIGLIP, applied, exported
from flip.losses import Setting, build_towers, named_losses, objectives
from flip.losses.sigmoid import pairwise_sigmoid
from flip.model.masking import mask_patches
from flip.model.packing import PackedBatch, split_rows
from flip.model.text import PAD
from flip.model.transformer import Transformer
from flip.model.vision import patchify
from flip.train.loop import build_model
from flip.train.optimizer import build_optimizer
from tests.test_model import MODEL, VOCABULARY, build, captions, part, random_images

WIDTH, END = 48, VOCABULARY - 1
SIZE = {**MODEL, "vision": {"layers": 2, "width": WIDTH, "heads": 3}, "text": {"layers": 2, "width": WIDTH, "heads": 2}}
VARIANTS = read_tree("params.yaml")["variants"]
CLIP, SIGLIP = (VARIANTS[name] | {"model": SIZE} for name in ("clip-form", "siglip"))


def batch(lengths=(2, 7, 32, 15)):
    """Captions that end in the token with the largest id, as CLIP's do."""
    ids = captions(list(lengths)).clamp(max=END - 1)
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return {"images": random_images(len(lengths)), "ids": ids, "positions": torch.arange(len(lengths))}


def pixels(model, images):
    """What the public models take: normalised images [batch, 3, height, width]."""
    return ((images - model.vision.mean[:3]) / model.vision.std[:3]).permute(0, 3, 1, 2)


def copy(module, theirs, table):
    """Gives their module our weights by a table that names every parameter on either side; returns them, still tied to
    ours."""
    own, other = dict(module.named_parameters()), dict(theirs.named_parameters())
    assert {name for pair in applied(table, own) for name in pair.ours} == own.keys()
    found = exported(table, own)
    assert found.keys() == other.keys()
    for name, tensor in found.items():
        other[name].data.copy_(tensor)
    return found


def check_gradients(module, theirs, found):
    """Their gradients, taken back through the table, are ours."""
    own, other = dict(module.named_parameters()), dict(theirs.named_parameters())
    gradients = [other[name].grad for name in found]
    expected = torch.autograd.grad(list(found.values()), list(own.values()), gradients)
    for (name, parameter), gradient in zip(own.items(), expected, strict=True):
        assert gradient.abs().max() > 0, name
        # Keys' biases have no influence, so that their gradients are rounding errors.
        atol = 1e-9 * max(gradient.abs().max().item(), 1e-3)
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=atol, msg=name)


def open_clip_model(activation):
    from open_clip.model import CLIP as Theirs
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=WIDTH, head_width=WIDTH // 3, patch_size=8, image_size=64)
    text = CLIPTextCfg(context_length=32, vocab_size=VOCABULARY, width=WIDTH, heads=2, layers=2)
    return Theirs(64, vision, text, quick_gelu=activation == "quick_gelu").double()


def configs(**shared):
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2} | shared
    text = {**sizes, "num_attention_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 32}
    return {
        "vision_config": {**sizes, "num_attention_heads": 3, "image_size": 64, "patch_size": 8},
        "text_config": text,
    }


def compare(model, theirs, table, embeddings, data, seed=0):
    """Our features and losses against (image, text, loss) of their model; then the gradients of the loss."""
    found = copy(model, theirs, table)
    image, text, expected = embeddings(theirs, data)
    outputs = model(data, seed)
    torch.testing.assert_close(outputs["image"], image, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(outputs["text"], text, rtol=1e-6, atol=1e-10)
    loss = sum(named_losses(objectives(Setting(model.params)), data, outputs).values())
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    loss.backward()
    expected.backward()
    check_gradients(model, theirs, found)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_form_equals_open_clip(change, activation):
    from open_clip.loss import ClipLoss

    form = {side: {**CLIP["form"][side], "activation": activation} for side in ("vision", "text")}
    model = build(change("clip", {**CLIP, "form": form}))

    def embeddings(theirs, data):
        image = theirs.encode_image(pixels(model, data["images"]), normalize=True)
        text = theirs.encode_text(
            data["ids"].clamp(min=0), normalize=True
        )  # they pad with 0 and look for the largest id
        return image, text, ClipLoss()(image, text, theirs.logit_scale.exp())

    compare(model, open_clip_model(activation), OPEN_CLIP, embeddings, batch())


def test_clip_form_equals_transformers(change):
    from transformers import CLIPConfig, CLIPModel

    model = build(change("clip", CLIP))
    settings = configs(hidden_act="gelu", layer_norm_eps=1e-5)
    settings["text_config"] |= {"eos_token_id": END, "bos_token_id": 0, "pad_token_id": 0}
    theirs = CLIPModel(CLIPConfig(**settings, projection_dim=64, attn_implementation="sdpa")).double()

    def embeddings(theirs, data):
        ids, images = data["ids"].clamp(min=0), pixels(model, data["images"])
        found = theirs(input_ids=ids, pixel_values=images, return_loss=True)
        return found.image_embeds, found.text_embeds, found.loss

    compare(model, theirs, TRANSFORMERS_CLIP, embeddings, batch())


def test_siglip_equals_transformers(change):
    """Every slot is a token, since SigLIP attends to its padding."""
    from transformers import SiglipConfig, SiglipModel

    model = build(change("clip", SIGLIP))
    settings = configs(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
    settings["text_config"]["projection_size"] = WIDTH
    theirs = SiglipModel(SiglipConfig(**settings, attn_implementation="sdpa")).double()
    data = batch()
    data["ids"] = torch.where(data["ids"] == PAD, END, data["ids"])

    def embeddings(theirs, data):
        found = theirs(input_ids=data["ids"], pixel_values=pixels(model, data["images"]), return_loss=True)
        return found.image_embeds, found.text_embeds, found.loss

    compare(model, theirs, TRANSFORMERS_SIGLIP, embeddings, data)


def test_siglip2s_towers_equal_transformers_at_a_fixed_size(change):
    """SigLIP 2 kept SigLIP's towers; transformers' class takes patches in rows, and keeps positions in float32."""
    from transformers import Siglip2Config, Siglip2Model

    model = build(change("clip", SIGLIP))
    settings = configs(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
    settings["text_config"]["projection_size"] = WIDTH
    del settings["vision_config"]["image_size"]
    settings["vision_config"]["num_patches"] = 64
    theirs, data = Siglip2Model(Siglip2Config(**settings, attn_implementation="sdpa")).double(), batch()
    weights = exported(TRANSFORMERS_SIGLIP, dict(model.named_parameters()))
    name = "vision_model.embeddings.patch_embedding.weight"
    weights[name] = weights[name].permute(0, 2, 3, 1).flatten(1)
    assert weights.keys() == dict(theirs.named_parameters()).keys()
    theirs.load_state_dict(weights, strict=False)
    data["ids"] = torch.where(data["ids"] == PAD, END, data["ids"])
    images = model.vision.normalize(patchify(data["images"], 8))
    sizes = {
        "pixel_attention_mask": torch.ones(images.shape[:2], dtype=torch.int64),
        "spatial_shapes": torch.tensor([[8, 8]] * len(images)),
    }
    found = theirs(input_ids=data["ids"], pixel_values=images.double(), **sizes, return_loss=True)
    outputs = model(data, 0)
    for ours, expected in (("image", found.image_embeds), ("text", found.text_embeds)):
        torch.testing.assert_close(outputs[ours], expected, rtol=1e-6, atol=1e-6)
    loss = pairwise_sigmoid(*(outputs[one] for one in ("image", "text", "scale", "bias")))
    torch.testing.assert_close(loss, found.loss, rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_attention_pooling_equals_timm(change, activation):
    from functools import partial

    from timm.layers import AttentionPoolLatent
    from torch import nn

    form = {**SIGLIP["form"]["vision"], "activation": activation}
    pool = build(change("clip", {**SIGLIP, "form": {"vision": form}})).vision.attention_pooling
    gelu = partial(nn.GELU, approximate="tanh" if activation == "gelu_tanh" else "none")
    norm = partial(nn.LayerNorm, eps=1e-6)
    theirs = AttentionPoolLatent(WIDTH, num_heads=3, norm_layer=norm, act_layer=gelu).double()
    found = copy(pool, theirs, part(TIMM, "attn_pool.", "vision.attention_pooling."))
    x, y = (
        torch.randn(4, 9, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        for _ in range(2)
    )
    torch.testing.assert_close(pool(x), theirs(y), rtol=1e-10, atol=1e-12)
    pool(x).square().sum().backward()
    theirs(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-12)
    check_gradients(pool, theirs, found)


def test_siglip_starts_as_the_paper_says(change):
    """t' = log 10, b = -10 (section 3.2), the scale not clipped; 'matched' is the prior's log 1 / (n - 1)."""
    fixed = {**SIGLIP, "sigmoid": {"weight": 1.0, "bias": -10.0}}
    model = build_towers(change("clip", fixed), VOCABULARY)
    assert model.log_scale.item() == pytest.approx(math.log(10))
    assert model.logit_bias.item() == -10
    model.log_scale.data.fill_(math.log(1e3))
    assert model.scale.item() == pytest.approx(1e3)
    matched = change("clip", {**SIGLIP, "sigmoid": {"weight": 1.0, "bias": "matched"}})
    assert [round(matched.sigmoid.initial_bias(n), 2) for n in (256, 4096, 32768)] == [-5.54, -8.32, -10.40]
    free = change("clip", {**SIGLIP, "sigmoid": {"weight": 1.0, "bias": None}})
    assert build_towers(free, VOCABULARY).logit_bias is None


def test_nothing_is_built_that_is_not_used(change):
    flip, clip, siglip = (build_towers(change("clip", one), VOCABULARY) for one in ({"model": SIZE}, CLIP, SIGLIP))
    names = [set(model.state_dict()) for model in (flip, clip, siglip)]
    new = {name for one in names[1:] for name in one} - names[0]
    assert {name for name in new if "attention_pooling" not in name} == {
        "vision.class_token", "vision.positions", "vision.pre_norm.weight", "vision.pre_norm.bias",
        "text_projection.bias", "logit_bias",
    }  # fmt: skip
    assert names[0] - names[1] == {"vision.embed.bias"}
    assert names[0] - names[2] == {"image_projection.weight"}


def test_the_class_token_always_stays(change):
    """Masking removes patches; what is left is pooled as before."""
    model = build(change("clip", CLIP))
    images = random_images(4)
    order = mask_patches(0, torch.arange(4), 64, 16)
    encoded = model.vision(images, order.ids_keep)
    assert encoded.shape == (4, 17, WIDTH)
    assert model.vision.patches(encoded).shape == (4, 16, WIDTH)
    assert torch.equal(model.vision.pool(encoded), encoded[:, 0])


@pytest.mark.parametrize("system", [CLIP, SIGLIP, {"model": SIZE, "form": {"vision": {"pooling": "max"}}}])
def test_every_form_is_masked_and_reconstructed(change, system):
    """Each parameter gets a gradient where patches are removed and predicted."""
    model = build_towers(change("flip-75-mae", {**system, "masking": {"image": 0.75}}), VOCABULARY)
    data = batch()
    sum(named_losses(objectives(Setting(model.params)), data, model(data, 0)).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name  # noqa: PT018


def test_later_tokens_change_no_earlier_state(change):
    """What stands after a token in a causal tower, and it alone, has no influence on the token's state."""
    for delta, causal in ((CLIP, True), (SIGLIP, False)):
        text = build(change("clip", delta)).text
        states = []
        text.transformer.register_forward_hook(lambda module, inputs, found, states=states: states.append(found))
        ids = captions([32])
        text.encode(ids)
        text.encode(torch.cat([ids[:, :20], ids[:, 20:].flip(1)], dim=1))
        assert torch.equal(states[0][:20], states[1][:20]) == causal
        assert not torch.equal(states[0][20:], states[1][20:])


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_one_token_is_what_it_is_among_all(causal, recompute):
    """Where one token of each sequence is read, the last block computes that one alone: same value, same gradients, for
    dense sequences and for packed ones of any length."""
    torch.manual_seed(0)
    form = VisionForm.model_validate(read_project().variants["clip-form"].form.vision.model_dump())
    transformer = Transformer(Tower(layers=2, width=WIDTH, heads=3), form, causal).double()
    transformer.recompute = recompute
    lengths = torch.tensor([1, 9, 4, 1, 7])
    valid, weights = torch.arange(9) < lengths[:, None], torch.randn(5, WIDTH).double()
    dense = torch.randn(5, 9, WIDTH).double()
    for x, where in ((dense, None), (dense[valid], PackedBatch.from_mask(valid))):
        for at in (torch.zeros_like(lengths), lengths - 1):
            one, every = (x.clone().requires_grad_() for _ in range(2))
            found, expected = transformer(one, where, at), transformer(every, where)
            expected = expected if where is None else where.unpack(expected)
            expected = expected[torch.arange(5), at]
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
            parameters = list(transformer.parameters())
            found = torch.autograd.grad((found * weights).sum(), [one, *parameters])
            expected = torch.autograd.grad((expected * weights).sum(), [every, *parameters])
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("causal", "recompute"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("tokens", [1, 4, 13])
def test_a_batch_in_parts_is_what_it_is_in_one(monkeypatch, tokens, causal, recompute):
    """Dense or packed, with captions that are empty, all tokens or one of each row: same values, same gradients."""
    torch.manual_seed(0)
    form = VisionForm.model_validate(read_project().variants["clip-form"].form.vision.model_dump())
    transformer = Transformer(Tower(layers=2, width=WIDTH, heads=3), form, causal).double()
    transformer.recompute = recompute
    lengths = torch.tensor([1, 9, 0, 4, 1, 7, 0])
    valid, dense = torch.arange(9) < lengths[:, None], torch.randn(7, 9, WIDTH).double()
    for x, where, at in (
        (dense, None, None),
        (dense, None, lengths),
        (dense[valid], PackedBatch.from_mask(valid), None),
    ):
        at = None if at is None else at.clamp(max=8)
        assert len(split_rows(x, where, at, tokens)) == min(7, round(x.shape[:-1].numel() / tokens))
        found = []
        for chunked in (True, False):
            transformer.chunk_on_cpu = chunked
            monkeypatch.setattr("flip.model.transformer.PART", tokens)
            given = x.clone().requires_grad_()
            states = transformer(given, where, at)
            inputs = [given, *transformer.parameters()]
            found.append([states, *torch.autograd.grad((states * states.detach().cos()).sum(), inputs)])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("system", [CLIP, {**SIGLIP, "captions": {"end": True}}])
def test_an_empty_caption_beside_others_changes_none_of_them(change, system):
    model = build(change("clip", system))
    ids = batch((7, 32, 3))["ids"]
    found = model.text(torch.cat([ids, torch.full_like(ids[:1], PAD)]))
    torch.testing.assert_close(found[:3], model.text(ids), rtol=1e-12, atol=1e-14)
    assert not found[3].any()


@pytest.mark.parametrize("system", [CLIP, {**SIGLIP, "captions": {"end": True}}])
def test_padding_has_no_influence(change, system):
    """The same caption alone, beside longer ones, and with more padding slots gives the same feature and gradient."""
    model = build(change("clip", system))
    ids = batch((7, 32, 3))["ids"]
    alone = model.encode_text(ids[:1, :7])
    torch.testing.assert_close(model.encode_text(ids)[:1], alone, rtol=1e-12, atol=1e-14)
    model.encode_text(batch((3, 5))["ids"]).sum().backward()
    gradient = model.text.positions.weight.grad
    assert (gradient[5:] == 0).all()
    assert (gradient[:5] != 0).any(dim=1).all()


def test_flips_form_is_what_it_was(change):
    """Weights and losses of FLIP's variants from before there were other forms, to float32's digits."""
    golden = {
        "clip": (852001, 45250.89757420615, [2.942704200744629, 2.8173828125, 2.704646110534668]),
        "flip-50": (852001, 45250.89757420615, [2.9626102447509766, 2.673272132873535, 2.4155702590942383]),
    }
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (16, 48, 48, 3), generator=generator).byte()
    ids = torch.randint(0, 1000, (16, 16), generator=generator)
    ids = ids.masked_fill(torch.arange(16) > torch.arange(16)[:, None], PAD)
    data = {"images": images, "ids": ids, "positions": torch.arange(16)}
    for name, (count, total, expected) in golden.items():
        params = change(name, {"model": {"vision": {"layers": 4}}, "train": {"batch": 16, "base_lr": 0.001}})
        model = build_model(params, 1000, 0, "cpu")
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert sum(x.double().abs().sum().item() for x in model.state_dict().values()) == pytest.approx(total, rel=1e-9)
        optimizer, found = build_optimizer(model, params.train), []
        for _ in expected:
            optimizer.zero_grad()
            loss = named_losses(objectives(Setting(params)), data, model(data, 0))["contrastive"]
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        assert found == pytest.approx(expected, rel=1e-5)
