"""The masked pass over both modalities: its losses are the formulas of M3AE and MAE-CLIP in NumPy; the encoders and the
decoder equal slow versions, sample by sample; padding has no influence and no gradient; masks hit their shares; with
no captions it is our MAE; and nothing is built that no loss needs."""

import numpy as np
import pytest
import torch

from flip.config.faults import ParameterError
from flip.data.batch_types import PAD
from flip.losses import Setting, build_towers, named_losses, objectives
from flip.losses.generative import GenerativeObjective
from flip.losses.reconstruction import ReconstructionObjective
from flip.model.m3ae import Visible
from flip.model.masking import mask_patches, mask_tokens
from flip.model.packing import true_counts
from flip.model.transformer import Transformer
from tests.test_model import MODEL, VOCABULARY, build, captions, random_images

HEAD = {"layers": 2, "width": 32, "heads": 2, "pixels": 0.7, "words": 0.3}
SYSTEMS = ["m3ae", "mae-clip"]
EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture
def change(change):
    """As everywhere, but with a model and a decoder whose sizes do not follow params.yaml."""
    return lambda variant, head=None, delta=None: change(
        variant, {"model": MODEL, "generative": {**HEAD, **(head or {})}, **(delta or {})}
    )


def batch(lengths=(32, 7, 1, 0, 20)):
    positions = torch.arange(50, 50 + len(lengths))
    return {"images": random_images(len(lengths)), "ids": captions(list(lengths)), "positions": positions}


def masks(params, data):
    """Kept patches (in the order drawn) and kept word slots of each sample, as lists."""
    patches, tokens = params.generative.kept(params.model)
    valid, positions = data["ids"] != PAD, data["positions"]
    order = mask_patches(0, positions, params.model.patches, patches, stream="generative-image")
    slots = mask_tokens(0, positions, valid, tokens, "random", "generative-text")
    words = [[s for s in row if real[s]] for row, real in zip(slots.tolist(), valid, strict=True)]
    return order.ids_keep.tolist(), words


def encode_slowly(model, data, sample, patches, words):
    """Tokens for the decoder [patches + words, width] of one sample."""
    encoder, vision = model.passes["generative"].encoder, model.vision
    seen = vision.tokens(data["images"][sample : sample + 1])[0, patches]
    ids = data["ids"][sample, words]
    if model.text is None:
        told = encoder.words[ids] + encoder.modality + encoder.positions[words]
        return encoder.embed(vision.transformer(torch.cat([seen, told])[None])[0])
    told = model.text.embed(ids) + model.text.positions(torch.tensor(words, dtype=torch.long))
    told = model.text.transformer(told[None])[0] if words else told
    return torch.cat([encoder.patches(vision.transformer(seen[None])[0]), encoder.words(told)])


def forward_slowly(model, data):
    """Every sample by itself, in sequences without padding: pixels, logits of removed words."""
    one, pixels, logits = model.passes["generative"], [], []
    for sample, (patches, words) in enumerate(zip(*masks(model.params, data), strict=True)):
        length = int((data["ids"][sample] != PAD).sum())
        tokens = encode_slowly(model, data, sample, patches, words)
        image, caption = one.image.mask_token.repeat(64, 1), one.text.mask_token.repeat(length, 1)
        image[patches], caption[words] = tokens[: len(patches)], tokens[len(patches) :]
        image = image + one.image.positions + one.image.modality
        caption = caption + one.text.positions[:length] + one.text.modality
        x = one.transformer(torch.cat([image, caption])[None])[0]
        pixels.append(one.pixels(x[:64]))
        logits.append(one.words(x[64:])[[slot for slot in range(length) if slot not in words]])
    return torch.stack(pixels), torch.cat(logits)


@pytest.mark.parametrize("variant", SYSTEMS)
def test_the_pass_equals_a_slow_one_sample_by_sample(change, variant):
    model, data = build(change(variant)), batch()
    outputs = model(data, 0)
    pixels, logits = forward_slowly(model, data)
    torch.testing.assert_close(outputs["pixels"], pixels, **EXACT)
    torch.testing.assert_close(outputs["words"], logits, **EXACT)
    assert_same_gradients(model, (outputs["pixels"], outputs["words"]), (pixels, logits))


def assert_same_gradients(model, found, expected):
    """Of every weight that either reaches, for one random weighting of what both give."""
    weights = [torch.randn_like(one) for one in found]
    ours, theirs = (
        torch.autograd.grad(
            sum((one * weight).sum() for one, weight in zip(outputs, weights, strict=True)),
            list(model.parameters()), allow_unused=True,
        )
        for outputs in (found, expected)
    )  # fmt: skip
    for (name, _), one, other in zip(model.named_parameters(), ours, theirs, strict=True):
        assert (one is None) == (other is None) == ("projection" in name or name == "log_scale"), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=name)


def numpy_losses(params, data, pixels, logits):
    """Sections on M3AE and MAE-CLIP, word by word: per sample over what is removed, then over samples."""
    kept, words = masks(params, data)
    mean, std = (np.array(getattr(params.form.vision, name)) for name in ("mean", "std"))
    image_losses, text_losses, start = [], [], 0
    for sample, (patches, visible) in enumerate(zip(kept, words, strict=True)):
        image = (data["images"][sample].numpy() / 255 - mean) / std
        patched = image.reshape(8, 8, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(64, 192)
        removed = np.setdiff1d(np.arange(64), patches)
        image_losses.append(((pixels[sample] - patched) ** 2).mean(1)[removed].mean())
        targets = [int(i) for slot, i in enumerate(data["ids"][sample]) if i != PAD and slot not in visible]
        rows = logits[start : start + len(targets)]
        start += len(targets)
        chosen = rows[np.arange(len(targets)), targets] - np.log(np.exp(rows).sum(1))
        text_losses.append(-chosen.sum() / max(len(targets), 1e-5))
    return np.mean(image_losses), np.mean(text_losses)


@pytest.mark.parametrize("variant", SYSTEMS)
def test_losses_equal_numpy(change, variant):
    params, data = change(variant), batch()
    model = build(params)
    outputs = model(data, 0)
    found = named_losses(objectives(Setting(params)), data, outputs)
    image, text = numpy_losses(params, data, *(outputs[name].detach().numpy() for name in ("pixels", "words")))
    assert found["pixels"].item() == pytest.approx(0.7 * image, rel=1e-6)  # targets are float32
    assert found["words"].item() == pytest.approx(0.3 * text, rel=1e-10)
    assert set(found) - {"pixels", "words"} == ({"contrastive"} if params.aligned else set())


@pytest.mark.parametrize("variant", SYSTEMS)
def test_nothing_removed_is_a_loss_of_zero(change, variant):
    """No caption, and one whose only word is kept: 0 and gradients of 0, no NaN."""
    params = change(variant, {"mask_text": 0.05})
    model, data = build(params), batch([1, 0, 1, 1])
    outputs = model(data, 0)
    assert not outputs["removed_words"].any()
    loss = GenerativeObjective(Setting(params))(data, outputs)["words"]
    assert loss == 0
    loss.backward()
    assert all(one.grad is None or (one.grad == 0).all() for one in model.parameters())


@pytest.mark.parametrize("variant", SYSTEMS)
def test_padding_has_no_influence_and_no_gradient(change, variant):
    """A longer caption beside it changes nothing; vectors of slots that hold padding alone get no gradient."""
    model = build(change(variant))
    long, short = batch((5, 30)), batch((5, 9))
    first, second = model(long, 0), model(short, 0)
    torch.testing.assert_close(first["pixels"][0], second["pixels"][0], **EXACT)
    count = int(first["removed_words"][0].sum())
    torch.testing.assert_close(first["words"][:count], second["words"][:count], **EXACT)
    captured = {}
    head = model.passes["generative"]
    head.transformer.register_forward_pre_hook(lambda _, given: captured.update(x=given[0]))
    mark = head.text.mark
    head.text.mark = lambda x: captured.setdefault("slots", mark(x))
    outputs = model(short, 0)
    captured["slots"].retain_grad()
    (outputs["pixels"].square().sum() + outputs["words"].square().sum()).backward()
    gradient = captured["slots"].grad
    valid = short["ids"] != PAD
    assert len(captured["x"]) == 2 * 64 + int(valid.sum())
    assert (gradient[~valid] == 0).all()
    assert (gradient[valid] != 0).any(dim=1).all()


def test_masks_hit_their_shares_and_are_not_those_of_the_contrastive_pass(change):
    params = change("mae-clip")
    model, data = build(params), batch([32] * 200)
    outputs = model.passes["generative"](model, data, 0)
    assert (outputs["removed_patches"].sum(1) == 48).all()
    assert (outputs["removed_words"].sum(1) == 24).all()
    for removed, share in ((outputs["removed_patches"], 0.75), (outputs["removed_words"], 0.75)):
        assert (removed.double().mean(0) - share).abs().max() < 0.13  # every place alike
        assert len(removed.unique(dim=0)) > 190  # not one mask for all, as in M3AE's released code
    other = mask_patches(0, data["positions"], 64, 16).ids_restore >= 16
    assert (outputs["removed_patches"] == other).double().mean() == pytest.approx(0.75**2 + 0.25**2, abs=0.02)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("variant", SYSTEMS)
def test_without_captions_it_is_our_mae(change, variant, normalize):
    """The same weights, no words: the decoder of variant mae, its pixels and its loss."""
    params = change(variant, {"normalize": normalize, "pixels": 1.0})
    head = {name: HEAD[name] for name in ("layers", "width", "heads")}
    plain = change("mae", {"pixels": 0.0, "words": 0.0}, {"reconstruction": {**head, "normalize": normalize}})
    model, mae, data = build(params), build(plain), batch([0] * 4)
    one, decoder = model.passes["generative"], mae.decoder
    one.image.modality.data.zero_()
    mae.vision.load_state_dict(model.vision.state_dict())
    embed = one.encoder.embed if model.text is None else one.encoder.patches
    decoder.embed.load_state_dict(embed.state_dict())
    decoder.predict.load_state_dict(one.pixels.state_dict())
    decoder.transformer.load_state_dict(one.transformer.state_dict())
    decoder.mask_token.data.copy_(one.image.mask_token)
    outputs = one(model, data, 0)
    order = mask_patches(0, data["positions"], 64, 16, stream="generative-image")
    expected = decoder.decode(mae.vision(data["images"], order.ids_keep), order.ids_restore)
    torch.testing.assert_close(outputs["pixels"], expected, **EXACT)
    loss = ReconstructionObjective(Setting(plain))(data, {"prediction": expected, "removed": order.ids_restore >= 16})
    torch.testing.assert_close(
        GenerativeObjective(Setting(params))(data, outputs)["pixels"], loss["reconstruction"], **EXACT
    )


def names(model):
    return {name.split(".")[0] if "passes" not in name else name for name, _ in model.named_parameters()}


def test_only_what_a_loss_needs_is_built(change):
    assert len(build_towers(change("clip", {"pixels": 0.0, "words": 0.0}), VOCABULARY).passes) == 0
    shared = build_towers(change("m3ae"), VOCABULARY)
    assert {name.split(".")[0] for name in names(shared)} == {"vision", "passes"}
    assert sum(isinstance(one, Transformer) for one in shared.modules()) == 2  # encoder and decoder
    for without, gone in (("words", "passes.generative.words"), ("pixels", "passes.generative.pixels")):
        for variant in SYSTEMS:
            both, one = (build_towers(change(variant, delta), VOCABULARY) for delta in ({}, {without: 0.0}))
            missing = names(both) - names(one)
            assert missing == {f"{gone}.weight", f"{gone}.bias"}
            assert [*named_losses(objectives(Setting(one.params)), batch(), one(batch(), 0))][-1] != without


def test_features_of_a_shared_encoder_are_those_of_its_patches(change):
    """For evaluation: patches alone, as the masked pass encodes them where all are kept and there are no words."""
    model, data = build(change("m3ae")), batch([0] * 3)
    features = model.encode_image(data["images"])
    assert features.shape == (3, MODEL["vision"]["width"])
    encoder = model.passes["generative"].encoder
    encoder.embed = torch.nn.Identity()
    patches, words = encoder(model, data, everything(data))
    torch.testing.assert_close(features, patches.mean(1), **EXACT)
    assert len(words) == 0


def everything(data):
    order = mask_patches(0, data["positions"], 64, 64)
    valid = data["ids"] != PAD
    return Visible(order, torch.arange(32).expand_as(valid), valid, true_counts(valid))


def test_the_contrastive_pass_of_mae_clip_is_that_of_clip(change):
    """Same weights, same features bit for bit: its images and captions are whole."""
    model, clip = build(change("mae-clip")), build(change("clip", {"pixels": 0.0, "words": 0.0}))
    clip.load_state_dict({n: x for n, x in model.state_dict().items() if not n.startswith("passes")})
    ours, theirs = model(batch(), 0), clip(batch(), 0)
    assert all(torch.equal(ours[name], theirs[name]) for name in ("image", "text", "scale"))
    assert not {"pixels", "words"} & model(batch(), 0, features_only=True).keys()


@pytest.mark.parametrize(
    ("variant", "delta", "message"),
    [
        ("m3ae", {"generative": {"mask_image": 0.0}}, "set mask_image above 0, or pixels to 0"),
        ("m3ae", {"generative": {"mask_text": 0.0}}, "set mask_text above 0, or words to 0"),
        ("m3ae", {"generative": {"mask_text": 0.99}}, "generative.mask_text keeps none of the 32 positions"),
        ("m3ae", {"generative": {"width": 18}}, "width 18 is not a multiple of 4"),
        ("m3ae", {"contrastive": {"weight": 1.0}}, "'shared' has none, so set both to 0"),
        ("mae-clip", {"contrastive": {"weight": 0.0}}, "'separate' reads the text tower"),
        ("m3ae", {"masking": {"image": 0.5}}, "masking.image has no forward to act on"),
        ("m3ae", {"generative": {"pixels": 0.0, "words": 0.0}}, "no loss: .* generative.pixels, generative.words"),
    ],
)
def test_mistakes_are_named(change, variant, delta, message):
    with pytest.raises(ParameterError, match=message):
        change(variant, delta.get("generative"), {key: value for key, value in delta.items() if key != "generative"})
