"""FLAVA's losses and gradients equal transformers' with the same weights and masks; its masks hit their shares and hide
no start, end or padding; what is hidden nowhere costs 0; mismatched captions leave the contrastive loss alone; and no
loss depends on how its batch is split."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from flip.config.faults import ParameterError
from flip.config.resolve import Project
from flip.config.schema import Captions
from flip.export.names import exported
from flip.export.transformers_flava import FlavaPretraining
from flip.losses import Setting, build_towers, named_losses, objectives
from flip.losses.flava import FlavaObjective
from flip.model.block_masks import block_masks, shown_words, word_masks
from flip.model.text import PAD
from tests.conftest import SMALL
from tests.test_forms import pixels
from tests.test_model import MODEL, VOCABULARY, build, random_images
from tests.test_train import advance, make_run, weights

WIDTH, CODES, WORDS = 48, 40, 9
SIZE = {
    "model": {**MODEL, "vision": {"layers": 2, "width": WIDTH, "heads": 3}, "embedding": WIDTH,
              "text": {"layers": 2, "width": WIDTH, "heads": 3}},
    "flava": {"multimodal": {"layers": 2, "width": WIDTH, "heads": 3}, "random_words": 0.0, "kept_words": 0.0},
    "codebook": {"codes": CODES},
}  # fmt: skip
LOSSES = ("mim", "mlm", "mmm_image", "mmm_text", "itm")


MASK = VOCABULARY  # their hidden word, one more than ours has
CAPTIONS = Captions(tokenizer="scale", languages=["en"], start=True, end=True, fill=False)
EXPORT = FlavaPretraining()


@pytest.fixture(scope="session")
def system(change):
    """system(itm=1.0): parameters of FLAVA in the size of these tests, with these weights."""

    def made(variant="flava-c", **flava):
        return change(variant, {**SIZE, "flava": {**SIZE["flava"], **flava}})

    return made


def batch(mismatched=(), pairs=5, seed=0):
    """Captions that fill as many slots each, and what is hidden."""
    draw = torch.Generator().manual_seed(seed)
    ids, words = (torch.randint(1, MASK, (pairs, WORDS), generator=draw) for _ in range(2))
    wrong = torch.zeros(pairs, dtype=torch.bool)
    wrong[list(mismatched)] = True
    return {
        "images": random_images(pairs),
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
    (flava,) = (one for one in objectives(Setting(params)) if isinstance(one, FlavaObjective))
    data = data | {name: factor.double() for name, factor in flava._factors(data).items()}
    return named_losses(objectives(Setting(params)), data, model(data, 0))


def theirs(params, model):
    """transformers' model as an export builds it, and its weights as functions of ours, which are returned, too."""
    other = EXPORT.build(params, SimpleNamespace(vocabulary=VOCABULARY, before=[0], after=[0])).double()
    own = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    given = exported(EXPORT.table, own)
    assert given.keys() | EXPORT.zeros == other.state_dict().keys()
    for name in EXPORT.zeros - given.keys():
        other.get_parameter(name).data.zero_()
    return partial(functional_call, other, given, (), tie_weights=False), own


def their_losses(model, other, data):
    """On pairs, then on images alone, then on captions alone, as their model computes its six losses."""
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
        seen = other({k: v.clone() for k, v in one.items()} | {"return_loss": True}).loss_info
        found |= {name: loss for name, loss in seen.items() if loss is not None}
    return {"contrastive": found.pop("global_contrastive"), **found}


@pytest.mark.parametrize("mismatched", [(), (1, 2), range(5)], ids=["all match", "some do", "none does"])
def test_losses_and_gradients_equal_transformers(system, mismatched):
    """Mismatched captions take no part in our contrastive loss, so that it is compared where all match."""
    params = system(**dict.fromkeys(LOSSES, 1.0))
    model, data = build(params), batch(mismatched)
    other, own = theirs(params, model)
    found, expected = losses(params, model, data), their_losses(model, other, data)
    assert found.keys() == expected.keys() == {"contrastive", *LOSSES}
    if mismatched:
        found.pop("contrastive")
        expected.pop("contrastive")
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-9, atol=0)
    sum(found.values()).backward()
    sum(expected.values()).backward()
    none = ("log_scale", "image_projection", "text_projection")
    for name, parameter in model.named_parameters():
        if mismatched and name.startswith(none):
            continue
        largest = own[name].grad.abs().max().item()
        assert largest > 0, name
        # Keys' biases have no influence, so that their gradients are rounding errors.
        atol = 1e-9 * max(largest, 1e-3)
        torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-6, atol=atol, msg=name)


def test_block_masks_are_those_of_the_released_generator():
    """Over 14 x 14 patches, 75 at most and 16 in the smallest block: mean 74.5, and 75 in 68 of 100, as measured on
    BEiT's own generator (5000 masks)."""
    masks = block_masks(0, torch.arange(5000), 14, 75, 16)
    counts = masks.sum(dim=1)
    assert counts.double().mean().item() == pytest.approx(74.5, abs=0.1)
    assert counts.max() == 75
    assert (counts == 75).double().mean().item() == pytest.approx(0.677, abs=0.03)
    assert torch.equal(masks[100:130], block_masks(0, torch.arange(100, 130), 14, 75, 16))
    assert not torch.equal(masks[:30], block_masks(1, torch.arange(30), 14, 75, 16))


def test_block_masks_have_the_counts_of_transformers_generator():
    from transformers.models.flava.image_processing_flava import FlavaMaskingGenerator

    theirs = FlavaMaskingGenerator(
        input_size=14, total_mask_patches=75, mask_group_min_patches=16, mask_group_max_patches=None
    )
    expected = torch.tensor([int(theirs().sum()) for _ in range(600)]).double()
    found = block_masks(0, torch.arange(600), 14, 75, 16).sum(dim=1).double()
    assert found.mean() == pytest.approx(expected.mean().item(), abs=0.3)
    assert found.std() == pytest.approx(expected.std().item(), rel=0.4)


def test_blocks_are_rectangles_and_small_grids_are_masked_too():
    """With a first block as large as the whole mask, most masks are one rectangle, as often tall as wide."""
    masks = block_masks(0, torch.arange(400), 14, 40, 40).unflatten(1, (14, 14))
    height, width = (masks.any(dim=side).sum(dim=1) for side in (2, 1))
    whole = height * width == masks.sum(dim=(1, 2))
    assert whole.double().mean() > 0.5
    assert 0.3 < (height[whole] > width[whole]).double().mean() < 0.7
    counts = block_masks(0, torch.arange(500), 6, 13, 3).sum(dim=1)
    assert counts.max() == 13
    assert counts.double().mean() > 12


def test_words_are_masked_at_their_share_and_start_end_and_padding_never():
    lengths = torch.arange(4000) % 14 + 2
    ids = torch.full((4000, 16), PAD)
    ids[torch.arange(16) < lengths[:, None]] = 5
    slots = torch.arange(16)
    masks = word_masks(0, torch.arange(4000), ids, 0.15, CAPTIONS)
    words = (slots > 0) & (slots < lengths[:, None] - 1)
    assert not masks[~words].any()
    assert masks[words].double().mean().item() == pytest.approx(0.15, abs=0.005)


def test_masked_words_are_shown_by_berts_rule():
    """Of the masked, a tenth as another word, a tenth as they are, the rest as the mask; nothing else changes."""
    positions, ids = torch.arange(4000), torch.full((4000, 16), 5)
    masked = torch.rand(4000, 16, generator=torch.Generator().manual_seed(0)) < 0.15
    shown, blank = shown_words(0, positions, ids, masked, (0.1, 0.1), 50)
    assert not (blank & ~masked).any()
    assert torch.equal(shown[~masked], ids[~masked])
    assert not (blank & (shown != ids)).any()
    assert blank[masked].double().mean().item() == pytest.approx(0.8, abs=0.015)
    others = shown[shown != ids]
    assert len(others) / masked.sum().item() == pytest.approx(0.1 * 49 / 50, abs=0.012)
    assert set(others.tolist()) == set(range(50)) - {5}
    part = shown_words(0, positions[9:12], ids[9:12], masked[9:12], (0.1, 0.1), 50)
    assert all(torch.equal(one, every[9:12]) for one, every in zip(part, (shown, blank), strict=True))
    for shares, expected in (((0.0, 0.0), masked), ((0.0, 1.0), masked & False)):
        shown, blank = shown_words(0, positions, ids, masked, shares, 50)
        assert torch.equal(shown, ids)
        assert torch.equal(blank, expected)


def test_words_that_are_kept_are_predicted_all_the_same(system):
    """Losses of words are there where no mask is shown, and equal those of a text tower that sees the whole caption."""
    params, data = system(mlm=1.0, kept_words=1.0), batch()
    model = build(params)
    loss = losses(params, model, data)["mlm"]
    states = model.text.transformer.norm(
        model.text.pre_norm_states(data["words"], torch.zeros_like(data["masked_words"]), None)[0]
    ).unflatten(0, data["words"].shape)
    logits = model.passes["flava"].heads["mlm"](states)[data["masked_words"]]
    expected = torch.nn.functional.cross_entropy(logits, data["words"][data["masked_words"]])
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)


def test_what_is_hidden_nowhere_costs_nothing(system):
    """No masked patch and no masked word: 0 and finite gradients, where a mean over nothing is no number."""
    params = system(**dict.fromkeys(LOSSES, 1.0))
    model, data = build(params), batch((1,))
    for name in ("masked_patches", "masked_words"):
        data[name] = torch.zeros_like(data[name])
    found = losses(params, model, data)
    assert [found[name].item() for name in LOSSES[:-1]] == [0.0] * 4
    assert found["itm"] > 0
    sum(found.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_padding_changes_no_loss(system):
    """What stands after a caption's end has no influence, in the multimodal encoder either."""
    params = system(**dict.fromkeys(LOSSES, 1.0))
    model, data = build(params), batch((2,))
    for name in ("ids", "words"):
        data[name][0, 5:] = PAD
        data[name][3, 4:] = PAD
    data["masked_words"] &= data["words"] != PAD
    longer = dict(data)
    for name, value in (("ids", PAD), ("words", PAD), ("masked_words", False)):
        longer[name] = torch.nn.functional.pad(data[name], (0, 6), value=value)
    found, expected = (losses(params, model, one) for one in (longer, data))
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-12, atol=0)
    alone = {name: value[:1, :5] if value.shape[1:] == (WORDS,) else value[:1] for name, value in data.items()}
    logits, other = model(data, 0), model(alone, 0)
    torch.testing.assert_close(logits["itm"][:1], other["itm"], rtol=1e-9, atol=1e-12)


def test_mismatched_captions_leave_contrastive_and_multimodal_losses_alone(system):
    """Which wrong caption a pair gets changes itm, and neither the contrastive loss nor what is modelled of others."""
    params = system(mmm_image=1.0, mmm_text=1.0, itm=1.0)
    model, data = build(params), batch((1, 3))
    other = dict(data)
    other["words"] = data["words"].clone()
    other["words"][[1, 3]] = other["words"][[3, 1]]
    one, two = (losses(params, model, batch) for batch in (data, other))
    assert one["itm"] != two["itm"]
    for name in ("contrastive", "mmm_image", "mmm_text"):
        torch.testing.assert_close(one[name], two[name], rtol=1e-12, atol=0)


def test_wrong_captions_are_the_neighbours_and_as_many_as_asked_for(change, small_data):
    params = change("flava", {**SMALL, "flava": {**SMALL["flava"], "mismatched": 0.3}})
    run = make_run(params, small_data)
    batch = run.loader.batch(0, 96)
    wrong = batch["mismatched"]
    assert wrong.double().mean().item() == pytest.approx(0.3, abs=0.1)
    assert torch.equal(batch["other_ids"][~wrong], batch["ids"][~wrong])
    assert torch.equal(batch["other_ids"][wrong], batch["ids"][torch.arange(96) ^ 1][wrong])
    part = run.loader.batch(33, 7)
    assert torch.equal(part["other_ids"], batch["other_ids"][33:40])


def test_losses_start_at_chance(change, small_data):
    """ln of the number of answers (FLAVA: ln 30522, ln 8192, ln 2)."""
    run = make_run(change("flava", SMALL), small_data)
    run.model.apply(lambda module: isinstance(module, torch.nn.Linear) and module.weight.data.mul_(0.1))
    found = run.losses(run.on_device(run.loader.batch(0, 24)))
    words = run.loader.captions.tokens.tokenizer.vocabulary
    expected = {"mim": 16, "mmm_image": 16, "mlm": words, "mmm_text": words, "itm": 2}
    for name, answers in expected.items():
        assert found[name].item() == pytest.approx(math.log(answers), rel=0.05), name


def test_nothing_is_built_that_no_loss_reads(system):
    plain, full = system(), system(**dict.fromkeys(LOSSES, 1.0))
    assert not build_towers(plain, VOCABULARY).passes
    assert len(objectives(Setting(plain))) == 1
    assert build_towers(system(mim=1.0), VOCABULARY).passes["flava"].multimodal is None
    one = set(build_towers(system(mmm_text=1.0), VOCABULARY).passes["flava"].heads)
    assert one == {"mmm_text"}
    assert set(build_towers(full, VOCABULARY).passes["flava"].heads) == set(LOSSES)


def test_flava_learns_in_bfloat16(change, small_data):
    run = make_run(change("flava", {**SMALL, "train": {**SMALL["train"], "precision": "bfloat16"}}), small_data)
    found = [sum(step.values()).item() for step in advance(run, 30)]
    assert all(map(math.isfinite, found))
    assert sum(found[-5:]) < 0.9 * sum(found[:5])
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"flava": {"mix": {"pairs": 0.7, "images": 0.2}}}, "pairs, images and texts add up to 0.9; allowed: 1"),
        ({"flava": {"mix": {"pairs": 0.7, "images": 0.3}}}, "mix.images = 0.3 has no loss .* give flava.mim a weight"),
        ({"flava": {"mlm": 1.0, "mix": {"pairs": 0.0, "texts": 1.0}}}, "mix.pairs = 0 leaves losses besides"),
        ({"contrastive": {"weight": 0.0}}, "no loss: give one of these .* contrastive.weight, .* flava.itm"),
        ({"flava": {"mim": 1.0, "mask_image": 0.01}}, r"masks none of the 36 patches; allowed: 0.0278 to 1"),
        ({"flava": {"mlm": 1.0, "mask_text": 0.0}}, "mask_text = 0 masks no word"),
        ({"flava": {"itm": 1.0, "mismatched": 0.0}}, "leaves itm one answer"),
        ({"flava": {"mlm": 1.0, "random_words": 0.95}}, "shares of the masked words; allowed: 1 together"),
        ({"flava": {"mlm": 1.0}, "captions": {"end": True, "fill": True}}, "captions.fill puts end tokens"),
        ({"form": {"text": {"pooling": "first"}}}, "reads the start token: set captions.start"),
    ],
)  # fmt: skip
def test_parameters_that_leave_a_loss_nothing_are_refused(change, delta, message):
    with pytest.raises(ValueError, match=message):
        change("clip", delta)


def test_another_patch_size_than_the_codebooks_is_refused(project):
    tree = copy.deepcopy(project.tree)
    tree["variants"]["flava"] = {**tree["variants"]["flava"], "model": {"patch": 16}}
    with pytest.raises(ParameterError, match=r"variant 'flava': .* model.patch = 8; not 48, 16"):
        Project(tree, project.scale).check()


def test_images_alone_are_modelled_without_a_text_tower(change, small_data):
    """As in the paper's first row: no other loss, and each parameter learns."""
    run = make_run(change("flava-c", {**SMALL, "contrastive": {"weight": 0.0}, "flava": {"mim": 1.0},
                                      "form": {"vision": {"projection": "linear"}}}), small_data)  # fmt: skip
    assert run.model.text is None
    losses = run.gradients(run.loader.batch(0, 24))
    assert losses.keys() == {"mim"}
    assert all(parameter.grad.abs().max() > 0 for parameter in run.model.parameters())
