"""Masks: every patch is kept or removed once, none is favoured, and neither the batch nor its split changes them."""

from types import SimpleNamespace

import pytest
import torch

from flip import rng
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
