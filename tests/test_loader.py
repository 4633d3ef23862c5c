"""The loader reads each pair once per epoch in an order that only the seed decides, resumes anywhere, and gives the
pixels that a plain decoder gives."""

from collections import Counter

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from flip.config.schema import Augmentation, Captions, Mix
from flip.data.crops import crop_box, decode_crops, mirror, resize
from flip.data.manifest import first_pairs
from flip.data.sampler import Order, build_order
from flip.data.shard import Shard
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer
from flip.files import read_json
from tests.loaders import pairs_loader

PLAIN = Augmentation(crop_area=(1.0, 1.0), crop_aspect=(0.75, 1.3333333), flip=False)


@pytest.fixture
def loader(small_data):
    def make(seed=0, augmentation=PLAIN, window=2, pairs=120):
        tokenizer = CaptionTokenizer(
            small_data / "tokenizer.json",
            8,
            Captions(tokenizer="scale", languages=["en"], start=False, end=False, fill=False),
        )
        manifest = first_pairs(read_json(small_data / "manifest.json"), pairs)
        return pairs_loader(
            manifest, small_data / "shards", Tokens(tokenizer, small_data, manifest), 16, augmentation, seed, window
        )

    return make


@pytest.mark.parametrize("window", [1, 2, 3, 10])
def test_each_epoch_holds_each_pair_once_and_in_another_order(window):
    order = Order([3, 1, 4, 1, 5], seed=0, window=window)
    epochs = [[order.locate(14 * epoch + i) for i in range(14)] for epoch in range(3)]
    everything = {(shard, item) for shard, count in enumerate([3, 1, 4, 1, 5]) for item in range(count)}
    assert all(set(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_order_mixes_a_window_of_shards_and_no_more():
    order = Order([100] * 10, seed=0, window=2)
    windows = [{order.locate(i)[0] for i in range(start, start + 200)} for start in range(0, 1000, 200)]
    assert [len(shards) for shards in windows] == [2] * 5
    assert set().union(*windows) == set(range(10))


FEW_AND_MANY = [{"name": f"{number}", "samples": 5, "source": "many" if number < 6 else "few"} for number in range(8)]


@pytest.mark.parametrize("weights", [{"few": 3.0}, {"few": 0.5}, {"few": 2.0, "many": 0.3}])
def test_samples_of_a_source_are_seen_as_often_as_its_weight_says(weights):
    """Relative to the others', and all samples of a source as often as each other, but for a pass that has begun."""
    order = build_order({"shards": FEW_AND_MANY}, None, 1, 0, 2, weights)
    total = {"many": 30 * weights.get("many", 1.0), "few": 10 * weights["few"]}
    seen, parts = Counter(), Counter()
    for position in range(2000):
        place = order.locate(position)
        seen[place] += 1
        parts[FEW_AND_MANY[place[0]]["source"]] += 1
        expected = (position + 1) * total["few"] / sum(total.values())
        assert abs(parts["few"] - expected) < 2
    for source in total:
        times = [count for place, count in seen.items() if FEW_AND_MANY[place[0]]["source"] == source]
        assert len(times) == (30 if source == "many" else 10)
        assert max(times) - min(times) <= 1


def test_equal_weights_shuffle_all_sources_together():
    counts = [shard["samples"] for shard in FEW_AND_MANY]
    for weights in ({}, {"few": 1.0}, {"few": 2.0, "many": 2.0}):
        order = build_order({"shards": FEW_AND_MANY}, None, 1, 0, 2, weights)
        assert [order.locate(n) for n in range(90)] == [Order(counts, 0, 2).locate(n) for n in range(90)]


@pytest.mark.parametrize("weights", [{}, {"few": 3.0}])
@pytest.mark.parametrize("mix", [None, Mix(pairs=0.5, images=0.25, texts=0.25)])
def test_shards_that_are_needed_next_are_listed_first(weights, mix):
    """Wherever one is, the shards that are read from are at the front; all are there once."""
    order = build_order({"shards": FEW_AND_MANY}, mix, 4, 0, 2, weights)
    for position in range(0, 200, 4):
        coming = order.coming(position)
        assert sorted(coming) == list(range(8))
        assert order.locate(position)[0] in coming[: order.breadth]


def test_a_share_of_the_data_is_as_large_a_share_of_each_source():
    found = first_pairs({"samples": 40, "shards": FEW_AND_MANY}, 21)
    assert found["samples"] == sum(shard["samples"] for shard in found["shards"]) == 21
    own = [sum(one["samples"] for one in found["shards"] if one["source"] == name) for name in ("many", "few")]
    assert own == [15, 6]


def test_order_of_400_million_pairs_is_found_at_once():
    order = Order([10_000] * 40_000, seed=0, window=16)
    assert order.locate(399_999_999) != order.locate(400_000_000)
    assert sum(a.nbytes for a in order._epoch(0)) < 1e6


def test_batches_do_not_depend_on_where_reading_starts_or_on_threads(loader):
    whole = loader().batch(0, 48)
    for workers in (0, 2):
        batches = loader().batches(16, 16, workers, 16)
        for start in (16, 32):
            part = next(batches)
            for name in whole:
                assert torch.equal(part[name], whole[name][start : start + 16])
        batches.close()


def test_another_seed_is_another_order(loader):
    assert not torch.equal(loader(0).batch(0, 48)["ids"], loader(1).batch(0, 48)["ids"])


def test_captions_belong_to_their_images(loader, small_data):
    from tests.conftest import COLOURS

    data = loader()
    vocabulary = read_json(small_data / "tokenizer.json")["definition"]["model"]["vocab"]
    words = {index: word for word, index in vocabulary.items()}
    batch = data.batch(0, 60)
    for image, ids in zip(batch["images"], batch["ids"], strict=True):
        mean = image.float().mean((0, 1)).numpy()
        nearest = min(COLOURS, key=lambda colour: np.abs(mean - COLOURS[colour]).sum())
        assert words[int(ids[0])] == nearest


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
def test_shards_are_plain_webdataset(small_data):
    import webdataset

    path = small_data / "shards" / "0000" / "00001.tar"
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    ours = Shard(path)
    assert [(s["jpg"], s["txt"].decode()) for s in theirs] == [
        (ours.encoded(i), ours.caption(i)) for i in range(len(ours))
    ]


def test_crops_stay_inside_and_keep_their_limits():
    augmentation = Augmentation(crop_area=(0.5, 1.0), crop_aspect=(0.75, 1.3333333), flip=False)
    draws = np.random.default_rng(0).random((500, 10, 4))
    for (height, width), tries in zip(np.random.default_rng(1).integers(40, 200, (500, 2)), draws, strict=True):
        top, left, h, w = crop_box(height, width, augmentation, tries)
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        assert 0.70 < w / h < 1.43
    # An image too narrow for any crop gives its largest centred part.
    assert crop_box(400, 30, augmentation, draws[0]) == (180, 0, 40, 30)


@pytest.mark.parametrize(
    ("size", "apart"),
    # PIL begins with the side that leaves less to do; where that is the height, it rounds other numbers than torch.
    [((144, 144), 0.01), ((65, 300), 0.01), ((64, 64), 0), ((20, 100), 0.01), ((1, 9), 0.01), ((300, 65), 0.5)],
)
def test_resize_is_pils_antialiased_bicubic(size, apart):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    reference = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
    found, mirrored = np.empty((2, 64, 64, 3), np.uint8)
    resize(image, found)
    assert np.abs(found.astype(int) - reference).mean() <= apart
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    plain = torch.nn.functional.interpolate(planes, (64, 64), mode="bicubic", antialias=True)
    assert np.array_equal(found, plain[0].permute(1, 2, 0).numpy())
    resize(image[:, ::-1], mirrored)
    mirror(mirrored)
    assert np.abs(found.astype(int) - mirrored).max() <= 1


@pytest.mark.parametrize(("side", "part"), [(40, 4), (64, 2), (120, 1)])
def test_an_image_is_decoded_as_small_as_its_crops_allow(side, part, monkeypatch):
    """Close to an antialiased bicubic of the whole; the larger of two crops does not blur the smaller one."""
    random, sizes = np.random.default_rng(0), []
    image = np.kron(random.integers(0, 255, (9, 12, 3)), np.ones((32, 32, 1))).astype(np.uint8)
    jpeg = simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="444")
    boxes = [(16, 32, 200, 184), (96, 144, 184, 232)]  # whole pixels at every size
    plain = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a: sizes.append(plain(*a).shape) or plain(*a))
    found = list(np.empty((2, side, side, 3), np.uint8))
    assert decode_crops(jpeg, lambda height, width: boxes, found)
    assert sizes == [(288 // part, 384 // part, 3)]
    for (top, left, rows, columns), square in zip(boxes, found, strict=True):
        cut = Image.fromarray(image).crop((left, top, left + columns, top + rows))
        reference = np.asarray(cut.resize((side, side), Image.Resampling.BICUBIC))
        assert np.abs(square.astype(int) - reference).mean() < 8
    assert not decode_crops(jpeg[:50], lambda height, width: boxes, found)


def test_a_broken_image_is_replaced_and_counted(loader, monkeypatch):
    data = loader()
    plain = Shard.encoded
    number, item = data.order.locate(0)

    def broken(self, i):
        cut = self is data.images.shards.open(number) and i == item
        return plain(self, i)[:20] if cut else plain(self, i)

    expected = data.images.shards.open(number).caption((item + 1) % len(data.images.shards.open(number)))
    monkeypatch.setattr(Shard, "encoded", broken)
    batch = data.batch(0, 4)
    assert torch.equal(batch["ids"][0], torch.from_numpy(data.captions.tokens.tokenizer([expected]))[0])
    assert data.images.broken == 1


@pytest.mark.parametrize(
    ("pairs", "shards"), [(1, [1]), (40, [40]), (41, [40, 1]), (100, [40, 37, 23]), (120, [40, 37, 43])]
)
def test_a_share_of_the_data_is_its_first_pairs_and_no_others(loader, pairs, shards):
    """Three epochs of it hold each of its pairs three times."""
    data = loader(pairs=pairs)
    assert data.order.counts.tolist() == shards
    every = [(number, item) for number, count in enumerate((40, 37, 43)) for item in range(count)]
    assert Counter(map(data.order.locate, range(3 * pairs))) == dict.fromkeys(every[:pairs], 3)


def test_a_broken_image_is_never_replaced_by_one_that_is_left_out(loader, monkeypatch):
    data = loader(pairs=41)
    monkeypatch.setattr(Shard, "encoded", lambda self, i: b"")
    with pytest.raises(ValueError, match="no image can be decoded"):
        data.batch(0, 1)
    assert data.images.broken in {1, 40}
