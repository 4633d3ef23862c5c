"""Corrupted pairs: as many as asked for, of each kind by itself, the same however the training order is read; without
noise nothing changes."""

import pytest
import torch

from flip.config.schema import Augmentation, Captions, Noise
from flip.data.batch_types import PAD
from flip.data.corruption import Corruption
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer
from flip.files import read_json
from flip.train.step import build_loader
from tests.conftest import SMALL
from tests.loaders import pairs_loader

BATCH = 12
KINDS = ("images", "texts", "pairs")


def noise(**shares):
    return Noise(**{**dict.fromkeys(KINDS, 0.0), **shares})


@pytest.fixture
def tokenizer(small_data):
    return CaptionTokenizer(
        small_data / "tokenizer.json",
        8,
        Captions(tokenizer="scale", languages=["en"], start=True, end=True, fill=False),
    )


@pytest.fixture
def loader(small_data, tokenizer):
    def make(seed=0, **shares):
        manifest = read_json(small_data / "manifest.json")
        plain = Augmentation(crop_area=(0.5, 1.0), crop_aspect=(0.75, 1.3333333), flip=True)
        corruption = Corruption(noise(**shares), seed, BATCH, tokenizer) if shares else None
        return pairs_loader(
            manifest, small_data / "shards", Tokens(tokenizer, small_data, manifest), 16, plain, seed, 2, corruption
        )

    return make


def changed(batch, clean, name):
    """Rows in which two batches differ."""
    return (batch[name] != clean[name]).flatten(1).any(1)


def test_without_noise_there_is_nothing_to_pay_and_no_bit_changes(change, small_data, loader):
    assert (
        build_loader(change("sigmoid", SMALL), small_data, read_json(small_data / "manifest.json"), 0).transforms == []
    )
    clean, none = loader().batch(0, 48), loader(images=0.0).batch(0, 48)
    assert all(torch.equal(clean[name], none[name]) for name in clean)
    assert build_loader(
        change("sigmoid-noise", SMALL), small_data, read_json(small_data / "manifest.json"), 0
    ).transforms


def test_noise_does_not_depend_on_where_reading_starts_or_on_how_batches_are_shared(loader):
    every = dict.fromkeys(KINDS, 0.5)
    whole = loader(**every).batch(0, 4 * BATCH)
    for size in (BATCH, BATCH // 2, BATCH // 3):
        parts = [loader(**every).batch(start, size) for start in range(0, 4 * BATCH, size)]
        for name in whole:
            assert torch.equal(torch.cat([part[name] for part in parts]), whole[name]), (size, name)
    assert not torch.equal(loader(1, **every).batch(0, 48)["images"], whole["images"])


def test_each_kind_falls_on_its_share_of_pairs_whatever_the_others_do(tokenizer):
    """Within four standard deviations, and two kinds together on the product of their shares."""
    positions = torch.arange(20_000)
    corruption = Corruption(noise(images=0.3, texts=0.1, pairs=0.4), 0, BATCH, tokenizer)
    chosen = {kind: corruption._chosen(kind, positions).double() for kind in KINDS}
    shares = {"images": 0.3, "texts": 0.1, "pairs": 0.4}
    for kind, share in shares.items():
        assert chosen[kind].mean().item() == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)
    both = (chosen["images"] * chosen["pairs"]).mean().item()
    assert both == pytest.approx(0.12, abs=4 * (0.12 * 0.88 / 20_000) ** 0.5)


def test_images_become_uniform_noise_and_captions_stay(loader):
    clean, batch = loader().batch(0, 120), loader(images=0.5).batch(0, 120)
    rows = changed(batch, clean, "images")
    assert 40 < rows.sum() < 80
    assert torch.equal(batch["ids"], clean["ids"])
    pixels = batch["images"][rows].flatten()
    counts = torch.bincount(pixels.int(), minlength=256).double()
    expected = len(pixels) / 256
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    assert statistic < 255 + 4 * (2 * 255) ** 0.5  # chi-squared with 255 degrees of freedom
    assert len(set(map(bytes, batch["images"][rows].flatten(1).numpy()))) == rows.sum()


def test_words_become_random_tokens_between_the_caption_s_own(loader, tokenizer):
    clean, batch = loader().batch(0, 120), loader(texts=0.5).batch(0, 120)
    rows = changed(batch, clean, "ids")
    assert 40 < rows.sum() < 80
    assert torch.equal(batch["images"], clean["images"])
    outside = torch.isin(clean["ids"], torch.tensor([PAD, *tokenizer.before, *tokenizer.after]))
    assert torch.equal(batch["ids"][outside], clean["ids"][outside])
    words = batch["ids"][rows][~outside[rows]]
    assert 0 <= words.min() <= words.max() < tokenizer.vocabulary
    assert len(words.unique()) > tokenizer.vocabulary / 2


def test_captions_are_exchanged_within_a_global_batch_and_none_is_lost(loader):
    clean, batch = loader().batch(0, 4 * BATCH), loader(pairs=0.5).batch(0, 4 * BATCH)
    assert torch.equal(batch["images"], clean["images"])
    ids = lambda one: one["ids"].split(BATCH)  # noqa: E731
    for theirs, ours in zip(ids(clean), ids(batch), strict=True):
        assert sorted(theirs.tolist()) == sorted(ours.tolist())
        assert 0 < (theirs != ours).any(1).sum() < BATCH


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_whoever_is_to_get_another_caption_does(tokenizer, share):
    corruption = Corruption(noise(pairs=share), 0, BATCH, tokenizer)
    for start in range(0, 50 * BATCH, BATCH):
        positions = torch.arange(start, start + BATCH)
        chosen, sources = corruption._chosen("pairs", positions), torch.tensor(corruption.sources(start, BATCH))
        assert sorted(sources.tolist()) == positions.tolist()
        moved = sources != positions
        assert torch.equal(moved, chosen) or (chosen.sum() == 1 and not moved.any())


def test_a_share_that_is_none_is_refused(change):
    with pytest.raises(ValueError, match=r"noise\.pairs.*less than or equal to 1"):
        change("clip", {"noise": {"pairs": 40}})
