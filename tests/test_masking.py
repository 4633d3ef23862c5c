"""Masks: every patch is kept or removed once, none is favoured, and neither the batch nor its split changes them."""

from types import SimpleNamespace

import pytest
import torch

from flip import rng
from flip.config.faults import ParameterError
from flip.model.masking import complementary, mask_patches, mask_tokens
from flip.rng import random_bits, uniform

POSITIONS = torch.arange(1000, 1400)


# First outputs of SplitMix64 as published for two seeds (Vigna's splitmix64.c; Rosetta Code).
PUBLISHED = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
}
STEP = 0x9E3779B97F4A7C15  # that the state advances by before each output


@pytest.mark.parametrize("seed", PUBLISHED)
def test_bits_are_those_of_splitmix64(monkeypatch, seed):
    """Of a stream that begins at a seed: the upper 63 of 64 bits, in the order of positions and slots."""
    begin = ((seed + STEP) % 2**64).to_bytes(8, "big")
    monkeypatch.setattr(rng, "sha256", lambda name: SimpleNamespace(digest=lambda: begin))
    found = random_bits(0, "any", torch.arange(2), 3)
    assert found.flatten().tolist()[:5] == [one >> 1 for one in PUBLISHED[seed]]
    assert random_bits(0, "any", torch.tensor([1]), 3).tolist() == found[1:].tolist()
    assert uniform(0, "any", torch.arange(2), 3).flatten().tolist()[:5] == [
        (one >> 11) * 2.0**-53 for one in PUBLISHED[seed]
    ]


def test_seeds_and_streams_begin_where_sha256_says():
    """The first 8 bytes of `printf 0/image | sha256sum` are the first state, for any machine and version."""
    assert random_bits(0, "image", torch.tensor([0]), 1).item() == 366676118576500219  # of 0xcba934c027325fa8


def test_restore_undoes_keep():
    order = mask_patches(0, POSITIONS, 64, 16)
    full = order.ids_restore.argsort(dim=1)
    assert torch.equal(full[:, :16], order.ids_keep)
    assert torch.equal(full.sort(dim=1).values, torch.arange(64).expand(400, 64))


def test_every_patch_is_kept_equally_often():
    order = mask_patches(0, torch.arange(20000), 16, 4)
    kept = torch.bincount(order.ids_keep.flatten(), minlength=16) / 20000
    assert (kept - 0.25).abs().max() < 5 * (0.25 * 0.75 / 20000) ** 0.5


def test_masks_do_not_depend_on_the_batch():
    whole = mask_patches(7, POSITIONS, 64, 16).ids_keep
    halves = [mask_patches(7, part, 64, 16).ids_keep for part in POSITIONS.split(137)]
    assert torch.equal(whole, torch.cat(halves))
    assert not torch.equal(whole, mask_patches(8, POSITIONS, 64, 16).ids_keep)
    assert len({tuple(row.tolist()) for row in whole}) == len(whole)


def test_streams_are_independent_and_uniform():
    a, b = (uniform(0, stream, torch.arange(5000), 4) for stream in ("image", "text"))
    assert a.min() >= 0
    assert a.max() < 1
    assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.04
    assert (torch.histc(a, 10, 0, 1) / a.numel() - 0.1).abs().max() < 0.012
    assert random_bits(0, "image", torch.tensor([2**40]), 3).min() >= 0


@pytest.mark.parametrize(("kept", "views"), [(32, 2), (16, 4), (48, 2), (64, 1)])
def test_complementary_views_cover_every_patch(kept, views):
    order = mask_patches(0, POSITIONS[:8], 64, kept)
    parts = complementary(order, kept)
    assert len(parts) == views
    assert torch.equal(parts[0], order.ids_keep)
    assert all(part.shape == (8, kept) for part in parts)
    for row in torch.cat(parts, dim=1):
        assert set(row.tolist()) == set(range(64))


def test_prioritized_masking_removes_padding_first():
    lengths = torch.arange(1, 33)
    valid = torch.arange(32) < lengths[:, None]
    kept = mask_tokens(0, torch.arange(32), valid, 16, "prioritized")
    words = valid.gather(1, kept).sum(1)
    assert torch.equal(words, lengths.clamp(max=16))


def test_random_text_masking_keeps_order_and_ignores_padding():
    valid = torch.arange(32) < torch.full((4000, 1), 8)
    kept = mask_tokens(0, torch.arange(4000), valid, 16, "random")
    assert (kept.diff(dim=1) > 0).all()
    share = valid.gather(1, kept).sum() / 4000
    assert abs(share - 4) < 0.1  # half of eight words survive


POLICIES = ["random", "grid", "block", "gaussian"]


def masking(change, policy, **more):
    return change("flip-50", {"masking": {"image_policy": policy, **more}}).masking


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kept", [9, 18, 7])
def test_each_policy_keeps_as_many_and_follows_from_the_position_alone(policy, kept, change):
    chosen = masking(change, policy)
    whole = mask_patches(7, POSITIONS, 36, kept, chosen)
    assert whole.ids_keep.shape == (400, kept)
    full = whole.ids_restore.argsort(dim=1)
    assert torch.equal(full.sort(dim=1).values, torch.arange(36).expand(400, 36))
    assert torch.equal(full[:, :kept], whole.ids_keep)
    halves = [mask_patches(7, part, 36, kept, chosen).ids_keep for part in POSITIONS.split(137)]
    assert torch.equal(whole.ids_keep, torch.cat(halves))
    assert not torch.equal(whole.ids_keep, mask_patches(8, POSITIONS, 36, kept, chosen).ids_keep)


def test_the_random_policy_is_that_of_before_there_were_others(change):
    chosen = mask_patches(7, POSITIONS, 64, 16, masking(change, "random"))
    assert torch.equal(chosen.ids_keep, random_bits(7, "image", POSITIONS, 64).argsort(dim=1)[:, :16])
    assert torch.equal(chosen.ids_keep, mask_patches(7, POSITIONS, 64, 16).ids_keep)


def shown(order, grid):
    """Which patches are kept: bool [batch, grid, grid]."""
    kept = torch.zeros(len(order.ids_keep), grid**2, dtype=torch.bool)
    return kept.scatter(1, order.ids_keep, True).unflatten(1, (grid, grid))


@pytest.mark.parametrize(("kept", "of_each"), [(9, {1}), (18, {2}), (27, {3}), (13, {1, 2})])
def test_grid_keeps_as_many_of_each_window_and_any_of_its_patches(kept, of_each, change):
    order = mask_patches(0, torch.arange(4000), 36, kept, masking(change, "grid"))
    windows = shown(order, 6).unflatten(2, (3, 2)).unflatten(1, (3, 2))
    assert set(windows.sum(dim=(2, 4)).flatten().tolist()) == of_each
    share = windows.float().mean(dim=(0, 1, 3))
    assert (share - kept / 36).abs().max() < 0.02


def test_block_removes_neighbours(change):
    """What is removed of 18 patches of 36 touches itself more than a random half does, and no patch is always there."""
    touching = {}
    for policy in ("random", "block"):
        gone = ~shown(mask_patches(0, torch.arange(2000), 36, 18, masking(change, policy)), 6)
        pairs = (gone[:, 1:] & gone[:, :-1]).sum() + (gone[:, :, 1:] & gone[:, :, :-1]).sum()
        touching[policy] = pairs.item() / 2000
        assert gone.float().mean(dim=0).min() > 0.2
    assert touching["block"] > 1.5 * touching["random"]


def test_gaussian_is_the_rule_of_glips_code(change):
    """A uniform number plus scipy's density, the largest kept; the centre stays more often, the less the variance."""
    from scipy.stats import multivariate_normal

    line = torch.linspace(-1, 1, 6, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(36, 2)
    density = torch.from_numpy(multivariate_normal([0, 0], [[0.2, 0], [0, 0.2]]).pdf(points.numpy()))
    found = mask_patches(3, POSITIONS, 36, 9, masking(change, "gaussian"))
    expected = (uniform(3, "image", POSITIONS, 36) + density).topk(9, dim=1).indices
    assert torch.equal(found.ids_keep, expected)
    centre = [
        shown(mask_patches(3, POSITIONS, 36, 9, masking(change, "gaussian", gaussian_variance=one)), 6)[:, 2:4, 2:4]
        for one in (0.1, 0.2, 100.0)
    ]
    first, second, last = (one.float().mean() for one in centre)
    assert first > second > last
    assert abs(last - 0.25) < 0.03


def test_token_policies_of_clipf():
    """Truncation keeps the first tokens; a block is in a row, from any place where it holds tokens alone if it can."""
    lengths = torch.tensor([12, 8, 3])
    valid = (torch.arange(12) < lengths[:, None]).repeat(500, 1)
    positions = torch.arange(1500)
    assert mask_tokens(0, positions, valid, 4, "truncation").tolist() == [[0, 1, 2, 3]] * 1500
    block = mask_tokens(0, positions, valid, 4, "block")
    assert torch.equal(block - block[:, :1], torch.arange(4).expand(1500, 4))
    starts = [set(block[row::3, 0].tolist()) for row in range(3)]
    assert starts == [set(range(9)), set(range(5)), {0}]
    assert torch.equal(block[7:8], mask_tokens(0, positions[7:8], valid[7:8], 4, "block"))


def test_windows_need_an_even_number_of_patches(change):
    with pytest.raises(ParameterError, match="takes windows of 2 x 2 patches, and there are 3 a side"):
        change("flip-50", {"model": {"patch": 16}, "masking": {"image_policy": "grid"}})
