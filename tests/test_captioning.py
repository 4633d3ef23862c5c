"""The captioning loss is the mean over captions of the mean entropy of their tokens, by a decoder that sees the image,
the tokens before, and no padding; what is predicted in parallel sees the image alone."""

import pytest
import torch
import torch.nn.functional as F

from flip.config.faults import ParameterError
from flip.data.batch_types import PAD
from flip.losses import Setting, build_towers
from flip.losses.captioning import CaptioningObjective
from flip.model.captioning import predicted
from flip.model.two_towers import draw_captions
from flip.rng import uniform
from tests.conftest import SMALL

VOCABULARY = 30
FORMS = [
    ("captioner", {}),
    ("captioner-parallel", {}),
    ("coca", {}),
    ("coca", {"queries": 3}),
    ("captioner", {"queries": 5, "layers": 2}),
]


@pytest.fixture
def small(change):
    return lambda variant, **sections: change(variant, SMALL | sections)


def build(params):
    torch.manual_seed(0)
    model = build_towers(params, VOCABULARY).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def batch(lengths=(8, 5, 2, 1, 8, 3), slots=8):
    torch.manual_seed(1)
    ids = torch.full((len(lengths), slots), PAD)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(VOCABULARY, (length,))
    images = torch.randint(256, (len(lengths), 16, 16, 3), dtype=torch.uint8)
    return {"images": images, "ids": ids, "positions": torch.arange(len(lengths))}


def loss(params, model, batch):
    objective = CaptioningObjective(Setting(params))
    batch = objective.prepare(draw_captions(params, batch, 0))
    return objective(batch, model(batch, 0))["captioning"]


def attend(query, states, attention, heads):
    """Multi-head attention of one query [width] to states [n, width] by torch's own."""
    theirs = torch.nn.MultiheadAttention(len(query), heads, kdim=states.shape[1], vdim=states.shape[1]).double()
    if hasattr(attention, "qkv"):
        weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias
    else:
        weights = (attention.query.weight, *attention.keys_values.weight.chunk(2))
        biases = torch.cat([attention.query.bias, attention.keys_values.bias])
    return F.multi_head_attention_forward(
        query[None], states, states, len(query), heads, None, biases, None, None, False, 0.0, attention.out.weight,
        attention.out.bias, use_separate_proj_weight=True, q_proj_weight=weights[0], k_proj_weight=weights[1],
        v_proj_weight=weights[2], need_weights=False, training=theirs.training,
    )[0][0]  # fmt: skip


def reference(params, model, batch, blind):
    """Caption by caption and token by token."""
    section, decoder = params.captioning, model.passes["captioning"]
    heads, losses = params.model.text.heads, []
    for row, ids in enumerate(batch["ids"]):
        ids = ids[ids != PAD]
        patches = model.vision(batch["images"][row : row + 1])[0]
        if section.queries:
            pool = decoder.pooling
            pooled = [attend(q, patches, pool.attention, params.model.vision.heads) for q in pool.queries]
            patches = pool.norm(torch.stack(pooled))
        if section.input == "text_tower":
            x, ids = model.text.encode(ids[None])[0][:-1], ids[1:]
        else:
            x = torch.cat([decoder.input.start[None], decoder.input.embed(ids[:-1])])
            x = decoder.input.mask.expand_as(x) if blind[row] else x
            x = x + decoder.input.positions.weight[: len(ids)]
        for block in decoder.decoder.blocks:
            seen = [len(x) if blind[row] else place + 1 for place in range(len(x))]
            normed = block.norm1(x)
            pairs = zip(normed, seen, strict=True)
            x = x + torch.stack([attend(one, normed[:end], block.attention, heads) for one, end in pairs])
            x = x + torch.stack([attend(one, patches, block.cross_attention, heads) for one in block.norm2(x)])
            x = x + block.mlp(block.norm3(x))
        found = F.log_softmax(decoder.predict(decoder.decoder.norm(x)), dim=-1)
        losses.append(-sum(found[place, one] for place, one in enumerate(ids)) / max(len(ids), 1))
    return section.weight * sum(losses) / len(losses)


@pytest.mark.parametrize(("variant", "section"), FORMS)
def test_the_loss_is_that_of_each_token_by_itself_with_gradients(small, variant, section):
    params = small(variant, captioning=section)
    model, data = build(params), batch((8, 5, 2, 2, 8, 3))
    blind = uniform(0, "captioning", data["positions"], 1)[:, 0] < params.captioning.parallel
    assert not params.captioning.parallel or 0 < blind.sum() < len(blind)
    values, gradients = [], []
    for compute in (lambda: loss(params, model, data), lambda: reference(params, model, data, blind)):
        model.zero_grad()
        value = compute()
        value.backward()
        values.append(value.detach())
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.grad is not None})
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)
    for name in gradients[1]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=1e-7, atol=1e-12, msg=name)


def logits(params, model, data):
    return model(CaptioningObjective(Setting(params)).prepare(draw_captions(params, data, 0)), 0)["captions"]


@pytest.mark.parametrize("variant", ["captioner", "coca"])
def test_later_tokens_change_no_earlier_prediction(small, variant):
    params = small(variant)
    model, data = build(params), batch((8,))
    changed = {**data, "ids": data["ids"].clone()}
    changed["ids"][0, 5:] = (changed["ids"][0, 5:] + 1) % VOCABULARY
    first = 1 if variant == "coca" else 0
    before, after = (logits(params, model, one) for one in (data, changed))
    same = 6 - first  # what predicts token 5 has seen none from there on
    assert torch.equal(before[:same], after[:same])
    assert not torch.equal(before[same], after[same])


def test_in_parallel_nothing_of_the_caption_is_seen_but_its_length(small):
    params = small("captioner", captioning={"parallel": 1.0})
    model, data = build(params), batch((8, 5))
    other = {**data, "ids": torch.where(data["ids"] == PAD, PAD, (data["ids"] + 3) % VOCABULARY)}
    assert torch.equal(logits(params, model, data), logits(params, model, other))
    other = {**data, "images": 255 - data["images"]}
    assert not torch.equal(logits(params, model, data), logits(params, model, other))


def test_of_the_end_tokens_that_fill_a_caption_one_is_predicted(change):
    params = change("siglip", SMALL | {"captioning": {"weight": 1.0}})
    end = 9
    ids = torch.tensor([[1, 2, end, end], [4, 4, 4, end], [end, end, end, end]])
    _, valid = predicted(params, ids)
    assert valid.tolist() == [[True, True, True, False], [True] * 4, [True, False, False, False]]


def test_a_caption_without_tokens_counts_as_nothing(small):
    params = small("captioner-parallel")
    model = build(params)
    some, none = batch((4, 6)), batch((4, 6, 0, 0))
    some["positions"], none["positions"] = torch.tensor([0, 0]), torch.tensor([0] * 4)
    none["images"][:2], none["ids"][:2] = some["images"], some["ids"]
    value = loss(params, model, none)
    torch.testing.assert_close(2 * value, loss(params, model, some), rtol=1e-12, atol=0)
    value.backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in model.parameters())


def test_captioning_alone_needs_no_text_tower(small):
    model = build(small("captioner", contrastive={"weight": 0.0}))
    assert model.text is None


@pytest.mark.parametrize(
    ("variant", "delta", "message"),
    [
        ("coca", {"captions": {"start": False}}, "form.text.causal and captions.start"),
        ("coca", {"captioning": {"parallel": 0.5}}, "captioning.parallel"),
        ("lit", {"captioning": {"weight": 1.0}}, "locked"),
    ],
)
def test_what_it_has_nothing_to_read_of_is_refused(change, variant, delta, message):
    with pytest.raises(ParameterError, match=message):
        change(variant, delta)
