"""Masks by what patches show, and merged tokens: against short reference implementations, whatever the batch."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flip.config.faults import ParameterError
from flip.export.formats import choose
from flip.losses import build_towers
from flip.model.masking import mask_patches
from flip.model.merging import Merged, merge, merged_count
from flip.model.pixel_masks import cosines, edges, transport
from flip.model.vision import patchify
from flip.rng import uniform
from flip.train import ema
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_model
from tests.conftest import SMALL

POLICIES = ["cluster", "pgs", "pgs-edges", "pgs-transport"]
POSITIONS = torch.arange(70, 78)


@pytest.fixture(scope="module")
def images():
    """Eight noisy images of a square before a background, the last two of one colour."""
    torch.manual_seed(0)
    found = torch.randint(0, 60, (8, 48, 48, 3), dtype=torch.uint8)
    for row, image in enumerate(found):
        image[8 + row : 30, 16:40] += 120
    found[6:] = 77
    return found


def masking(change, policy, **more):
    return change("flip-50", {"masking": {"image_policy": policy, **more}}).masking


def reference_cosines(image, patch):
    x = patchify(image[None], patch)[0].double()
    x = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, correction=0, keepdim=True) + 1e-6 * 255**2).sqrt()
    return x @ x.T / x.shape[1]


@pytest.mark.parametrize("patch", [8, 24])  # sums in float32, and in float64
def test_cosines_are_those_of_normalised_patches(images, patch):
    found = cosines(images, patch)
    expected = torch.stack([reference_cosines(image, patch) for image in images])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    rows = torch.tensor([[3, 1]]).expand(8, 2)
    assert torch.equal(cosines(images, patch, rows), found[:, [3, 1]])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cosines(images, patch), found)


def test_edges_are_sobels(images):
    """Of the sum of colours, by a convolution; the square's border has more than its inside."""
    gray = images.sum(dim=3).double()[:, None]
    kernel = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)
    filters = torch.stack([kernel, kernel.T])[:, None]
    strength = F.pad(F.conv2d(gray, filters).abs().sum(dim=1), (1, 1, 1, 1))
    total = patchify(strength[..., None], 8).sum(dim=2)
    least, most = total.amin(dim=1, keepdim=True), total.amax(dim=1, keepdim=True)
    expected = (total - least) / (most - least).clamp(min=1)
    torch.testing.assert_close(edges(images, 8), expected, rtol=0, atol=1e-12)
    assert edges(images, 8)[6:].abs().max() == 0


def test_the_plan_is_doubly_stochastic_and_a_scaled_kernel(images):
    similarity = cosines(images, 8)
    plan = transport(similarity)
    assert torch.allclose(plan, plan.mT)
    torch.testing.assert_close(plan.sum(dim=2), torch.ones(8, 36, dtype=torch.float64), rtol=0, atol=1e-4)
    ratio = (plan / similarity.exp()).log()  # log u_i + log u_j
    torch.testing.assert_close(
        ratio[:, 1:, 1:] - ratio[:, :1, 1:], (ratio[:, 1:, :1] - ratio[:, :1, :1]).expand(8, 35, 35)
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kept", [18, 9])
def test_what_looks_like_an_anchor_is_removed(policy, kept, images, change):
    """As a loop over images and anchors finds it."""
    chosen = masking(change, policy, anchors=0.1)
    order = mask_patches(3, POSITIONS, 36, kept, chosen, images=images)
    draws, border = uniform(3, "image", POSITIONS, 36), edges(images, 8)
    for row, image in enumerate(images[:6]):  # of one colour, all are alike
        first = draws[row] + (border[row] if policy in ("pgs", "pgs-edges") else 0)
        anchors = sorted(range(36), key=first.tolist().__getitem__)[:4]
        similarity = reference_cosines(image, 8)
        if policy in ("pgs", "pgs-transport"):
            similarity = similarity + transport(similarity[None])[0]
        nearest = [math.inf if patch in anchors else max(similarity[a, patch] for a in anchors) for patch in range(36)]
        expected = sorted(range(36), key=nearest.__getitem__)[:kept]
        assert sorted(order.ids_keep[row].tolist()) == sorted(expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_masks_follow_from_image_seed_and_position_alone(policy, images, change):
    chosen = masking(change, policy)
    whole = mask_patches(7, POSITIONS, 36, 18, chosen, images=images)
    assert whole.ids_keep.shape == (8, 18)
    full = whole.ids_restore.argsort(dim=1)
    assert torch.equal(full.sort(dim=1).values, torch.arange(36).expand(8, 36))
    parts = [mask_patches(7, POSITIONS[at], 36, 18, chosen, images=images[at]) for at in torch.arange(8).split(3)]
    assert torch.equal(whole.ids_keep, torch.cat([one.ids_keep for one in parts]))
    again = mask_patches(8, POSITIONS, 36, 18, chosen, images=images)
    assert all(
        not torch.equal(*rows) for rows in zip(whole.ids_keep.sort().values, again.ids_keep.sort().values, strict=True)
    )


# Merged tokens.


def reference_merge(tokens, size, keys, count, first):
    """Merge the tokens of one image, pair by pair: [tokens, width], [tokens]."""
    unit = F.normalize(keys, dim=-1)
    sources, targets = range(first, len(tokens), 2), range(first + 1, len(tokens), 2)
    best = {one: max(targets, key=lambda other: unit[one] @ unit[other]) for one in sources}
    chosen = sorted(sources, key=lambda one: -(unit[one] @ unit[best[one]]))[:count]
    sums, sizes = tokens * size[:, None], size.clone()
    for one in chosen:
        sums[best[one]] += tokens[one] * size[one]
        sizes[best[one]] += size[one]
    left = [*range(first), *(one for one in sources if one not in chosen), *targets]
    return sums[left] / sizes[left][:, None], sizes[left]


@pytest.mark.parametrize(("tokens", "first", "count"), [(12, 0, 4), (13, 1, 6), (9, 0, 1)])
def test_merging_is_bipartite_soft_matching(tokens, first, count):
    torch.manual_seed(tokens)
    x, keys = torch.randn(5, tokens, 6, dtype=torch.float64), torch.randn(5, tokens, 4)
    size = torch.randint(1, 4, (5, tokens)).double()
    found = merge(Merged(x, size), keys, count, first)
    for row in range(5):
        expected = reference_merge(x[row], size[row], keys[row], count, first)
        torch.testing.assert_close(found.tokens[row], expected[0])
        torch.testing.assert_close(found.size[row], expected[1])
    assert torch.equal(found.size.sum(dim=1), size.sum(dim=1))
    assert torch.equal(merge(Merged(x, size), keys, 0, first).tokens, x)


def test_a_block_merges_at_most_every_other_token_and_no_class_token():
    assert [merged_count(tokens, 8, 0) for tokens in (36, 16, 15, 1)] == [8, 8, 7, 0]
    assert merged_count(17, 8, 1) == 8
    assert merged_count(16, 8, 1) == 7


def merging_model(change, pooling="mean", share=0.5, **form):
    delta = {"form": {"vision": {"merged": share, "pooling": pooling, **form}}}
    if pooling == "class":
        delta["form"]["vision"]["positions"] = "learned"
    torch.manual_seed(0)
    return build_towers(change("clip", delta), 100)


@pytest.mark.parametrize("pooling", ["mean", "class", "map", "max"])
def test_a_token_that_stands_for_two_weighs_twice(pooling, change, images):
    """Copies of a token have the same keys: merged, they give the features that they give apart."""
    model = merging_model(change, pooling).double()
    vision, first = model.vision, int(pooling == "class")
    x = torch.randn(2, 18 + first, 96, dtype=torch.float64)
    twice = torch.cat([x[:, :first], x[:, first:].repeat_interleave(2, dim=1)], dim=1)
    found = vision.transformer.blocks[0].merge(Merged.begin(twice), 18, first)
    assert found.tokens.shape == x.shape
    assert (found.size[:, first:] == 2).all()
    for block in vision.transformer.blocks[1:]:
        found = block.merge(found, 0, first)
    expected = vision.transformer.pre_norm_states(twice)
    torch.testing.assert_close(found.tokens[:, first:], expected[:, first::2])


@pytest.mark.parametrize("pooling", ["mean", "class", "map", "max"])
def test_the_number_of_tokens_does_not_depend_on_the_image(pooling, change, images):
    """Half of 36 patches in three blocks: 36, 30, 24, 18, and a class token that stays."""
    model = merging_model(change, pooling)
    seen = []
    for block in model.vision.transformer.blocks:
        block.mlp.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    features = model.encode_image(images)
    assert features.shape == (8, 256)
    extra = int(pooling == "class")
    assert seen == [30 + extra, 24 + extra, 18 + extra]
    features.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.vision.parameters())
    alone = torch.cat([model.encode_image(image[None]) for image in images[:6]])
    torch.testing.assert_close(features[:6].detach(), alone.detach(), rtol=1e-4, atol=1e-5)


def test_at_evaluation_tokens_are_merged_or_not_as_the_form_says(change, images):
    plain = merging_model(change, share=0.0).eval().encode_image(images)
    models = [merging_model(change, merges_at_evaluation=one) for one in (True, False)]
    trained, kept = (model.train().encode_image(images) for model in models)
    assert torch.equal(trained, kept)
    assert torch.equal(models[0].eval().encode_image(images), trained)
    assert torch.equal(models[1].eval().encode_image(images), plain)
    assert not torch.equal(trained, plain)


def test_activation_checkpoints_and_parts_of_a_batch_change_no_merged_feature(change, images):
    model = merging_model(change)
    plain = model.encode_image(images)
    model.vision.transformer.recompute = True
    model.vision.transformer.chunk_on_cpu = False
    assert torch.allclose(model.encode_image(images), plain, atol=1e-6)


def test_what_reads_patches_is_refused_with_merged_tokens(change):
    with pytest.raises(ParameterError, match=r"merged = 0\.5 leaves no patch as it was, and reconstruction reads"):
        change("flip-50-mae", {"form": {"vision": {"merged": 0.5}}})


@pytest.mark.parametrize("name", ["timm", "transformers", "open_clip"])
def test_exports_refuse_merged_tokens_but_where_they_are_not_merged_at_evaluation(name, change):
    form = {"merged": 0.5, "merges_at_evaluation": True}
    with pytest.raises(ValueError, match=r"form.vision.merged = 0.5; allowed: 0.0: it sees every patch"):
        choose(name, change("clip-form", {"form": {"vision": form}}))
    target = choose(name, change("clip-form", {"form": {"vision": form | {"merges_at_evaluation": False}}}))
    assert target.name == choose(name, change("clip-form", {})).name


# Attentive masks.


def attentive(change, delta=None):
    return change("flip-50-attentive", SMALL | (delta or {}))


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_the_most_attended_patches_are_kept(pooling, change, images):
    """By the attention of torch's own layer, with weights of a block, over blocks and heads."""
    delta = {"form": {"vision": {"pooling": pooling}}}
    model = build_model(change("flip-50-attentive", delta), 100, 0, "cpu")
    vision, first = model.looking, int(pooling == "class")
    x, total = vision.tokens(images), 0
    for block in vision.transformer.blocks:
        layer = nn.MultiheadAttention(96, 3, batch_first=True)
        layer.in_proj_weight, layer.in_proj_bias = block.attention.qkv.weight, block.attention.qkv.bias
        layer.out_proj = block.attention.out
        normed = block.norm1(x)
        weights = layer(normed, normed, normed)[1]
        total = total + (weights[:, 0] if first else weights.mean(dim=1))
        x = block(x, None)
    expected = total[:, first:] / 3
    torch.testing.assert_close(vision.attention_map(images), expected.detach(), rtol=1e-4, atol=1e-6)
    order = model.mask_order(images, POSITIONS, 0)
    rank = expected.argsort(dim=1, descending=True)[:, :18]
    assert torch.equal(order.ids_keep[:6].sort().values, rank[:6].sort().values)


def test_the_average_follows_the_tower(change, small_data):
    """By hand, over three steps; it starts as the tower, and the momentum ends at 1."""
    params = attentive(change, {"masking": {"momentum": 0.5}})
    model = build_model(params, 100, 0, "cpu")
    run = TrainingRun(params, SimpleNamespace(), model, 4, 0, ProcessGroup())
    expected = [parameter.detach().clone() for parameter in model.vision.parameters()]
    for done in range(3):
        for parameter in model.vision.parameters():
            parameter.grad = torch.ones_like(parameter)
        run.update({"loss": torch.tensor(0.0)})
        weight = 1 - 0.5 * (math.cos(math.pi * done / 4) + 1) / 2
        expected = [
            weight * slow + (1 - weight) * fast.detach()
            for slow, fast in zip(expected, model.vision.parameters(), strict=True)
        ]
    for one, other in zip(model.looking.parameters(), expected, strict=True):
        torch.testing.assert_close(one, other)
        assert not one.requires_grad
    assert ema.momentum(0.996, 0.0) == 0.996
    assert ema.momentum(0.996, 1.0) == 1.0


def test_a_variant_without_it_has_no_average(change):
    assert build_model(change("flip-50", SMALL), 100, 0, "cpu").looking is None
    assert build_model(attentive(change, {"masking": {"image": 0.0}}), 100, 0, "cpu").looking is None


def test_additions_to_weights_are_refused(change):
    delta = {"start": "clip", "train": {"lora": {"rank": 2, "alpha": 4}}}
    with pytest.raises(ParameterError, match="attentive' uses an average of all weights"):
        change("flip-50-attentive", delta)
