"""Pairs are chosen by scores, and training reads those that are kept and no other."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flip.config.faults import ParameterError
from flip.config.frozen import dump, merge
from flip.curate import captions, policies, score, select, total
from flip.curate import count as counting
from flip.data import word_counts, word_table
from flip.data.pairs import SampleList
from flip.data.sampler import build_order
from flip.data.selection import Selection
from flip.data.shard import open_shard
from flip.evaluate.inputs import read_model
from flip.files import read_json, write_json
from flip.formats.texts import Texts
from flip.model.weights import save_weights
from flip.train import __main__ as pretrain
from flip.train.precompute_features import pixels
from tests.conftest import SMALL

FREQUENCY = {"policy": "frequency", "share": 0.5, "word_threshold": 0.01}
BALANCE = {"policy": "balance", "cap": 0.1}
CLIP_SCORE = {"policy": "clip-score", "by": "clip", "share": 0.25}


@pytest.fixture(scope="module")
def curated(change):
    return lambda curation: change("clip", {"curation": curation})


def test_numbers_are_in_the_order_of_scores():
    scores = np.array([-np.inf, -2.5, -1e-40, -0.0, 0.0, 1e-40, 0.1, 3, np.inf], np.float32)
    numbers = select.ordered(scores)
    assert numbers[3] == numbers[4]
    assert (np.diff(np.delete(numbers, 3).astype(np.int64)) > 0).all()
    assert [select.as_score(int(one)) for one in numbers] == scores.tolist()


@pytest.mark.parametrize("values", [1000, 7])  # of scores: all different, most alike
@pytest.mark.parametrize("keep", [1, 13, 500, 1000])
def test_the_threshold_is_that_of_all_scores_sorted(tmp_path, values, keep):
    scores = np.random.default_rng(keep).integers(-values, values, 1000).astype(np.float32) / 37
    for number, part in enumerate(np.split(scores, [100, 101, 640])):
        np.save(tmp_path / f"{number}.npy", part)
    found = select.threshold_of(sorted(map(str, tmp_path.glob("*.npy"))), keep)
    assert np.float32(found) == np.sort(scores)[::-1][keep - 1]


def test_entries_are_substrings_that_begin_and_end_at_spaces_or_punctuation():
    entries = ["red", "red fox", "fox , jumping", "ox", "New York", "?"]
    caption = "A RED fox, jumping in new york?"
    spaced = " a red fox , jumping in new york ? "
    expected = {one.lower() for one in entries if f" {one.lower()} " in spaced}
    assert captions.EntryMatcher(entries)(caption) == expected == {"red", "red fox", "fox , jumping", "new york", "?"}


def test_frequent_words_make_a_caption_less_worth():
    """WFPP: (1 - the product of 1 - sqrt(t / f)) / words, where words rarer than t, or uncounted, do not count."""
    counts, threshold = {"a": 900, "dog": 80, "heron": 20, ",": 4000}, 1e-3
    frequencies = {word: count / 1000 for word, count in counts.items() if word != ","}
    score_of = policies.frequency(counts, threshold)

    def expected(*words):
        shares = [1 - math.sqrt(threshold / frequencies[word]) for word in words if word in frequencies]
        return (1 - math.prod(shares)) / len(words)

    for words in (["a"], ["a", "dog"], ["a", "heron"], ["once", "dog"]):
        assert score_of("key", " ".join(words)) == pytest.approx(expected(*words))
    assert score_of("key", "a dog") < score_of("key", "a heron")
    assert policies.frequency({"rare": 5, "a": 10**6}, 0.01)("key", "rare") == 0
    assert score_of("key", "...") == -math.inf


def test_a_pair_is_kept_if_one_of_its_entries_draws_below_its_probability():
    counts, cap = {"many": 1000, "few": 3, "some": 100}, 10
    of = policies.balance(counts, cap, lambda caption: caption.split(), seed=5)
    kept = [of(f"key-{number}", "many") >= 0 for number in range(1000)]
    assert sum(kept) == pytest.approx(10, abs=4 * 10**0.5)
    expected = [policies.draw(5, f"key-{number}", "many") <= 0.01 for number in range(1000)]
    assert kept == expected
    assert all(of(f"key-{number}", "many few") >= 0 for number in range(50))
    assert of("key", "") == -math.inf
    other = policies.balance(counts, cap, lambda caption: caption.split(), seed=6)
    assert other("key-0", "some") != of("key-0", "some")


@pytest.fixture(scope="module")
def parts(small_data, tmp_path_factory):
    """The small data with lists of samples; its shards are a part."""
    manifest, folder = read_json(small_data / "manifest.json"), tmp_path_factory.mktemp("lists")
    part = manifest["shards"][0]["name"].partition("/")[0]
    assert {one["name"].partition("/")[0] for one in manifest["shards"]} == {part}
    with open(folder / "samples.parquet", "wb") as file:
        listed = SampleList(file)
        for entry in manifest["shards"]:
            shard = open_shard(small_data / "shards", entry)
            for item in range(len(shard)):
                texts = Texts([shard.caption(item), "another caption"], [])
                listed.add({"__key__": shard.key(item), "__url__": "", "__sha256__": "", "__captions__": texts})
        listed.close()
    return small_data, manifest, part, folder / "samples.parquet"


def chosen(parts, params, out, *scoring, seed=0):
    """What the stages choose of the small data."""
    data, _, part, samples = parts
    (out / "clip.yaml").write_text(dump(params))
    common = ["--params", str(out / "clip.yaml")]
    counted, counts = out / f"words/{part}.parquet", out / "words/all.parquet"
    if params.curation.reads_words:
        word_counts.main(["--list", str(samples), "--out", str(counted)])
        word_table.main([*common, "--counts", str(counted), "--out", str(counts)])
    elif params.curation.reads_mentions:
        counting.main([*common, "--samples", str(samples), "--out", str(counted)])
        total.main([*common, "--data", str(data), "--counts", str(counted), "--out", str(counts)])
    words = ["--samples", str(samples), "--words", str(counts)]
    where = ["--data", str(data), "--part", part, "--seed", str(seed), "--out", str(out / f"scores/{part}.npy")]
    score.main([*common, *where, *(scoring or words)])
    paths = ["--scores", str(out / f"scores/{part}.npy"), "--out", str(out / "selection.json")]
    select.main([*common, "--data", str(data), *paths])
    return np.load(out / f"scores/{part}.npy"), read_json(out / "selection.json")


@pytest.mark.parametrize("curation", [FREQUENCY, BALANCE])
def test_pairs_are_chosen_by_the_words_of_all_captions(parts, curated, tmp_path, curation):
    params = curated(curation)
    data, manifest, *_ = parts
    scores, found = chosen(parts, params, tmp_path)
    shards = [open_shard(data / "shards", one) for one in manifest["shards"]]
    pairs = [(one.key(item), one.caption(item)) for one in shards for item in range(len(one))]
    if curation is FREQUENCY:  # words of all captions, those that are there five times
        found_words = Counter(" ".join(f"{caption} another caption" for _, caption in pairs).lower().split())
        counts = {word: count for word, count in found_words.items() if count >= 5}
    else:  # the captions that are read
        counts = Counter(word for _, caption in pairs for word in {*caption.lower().split()})
    of = policies.by_words(params.curation, counts, len(pairs), 0)
    assert scores.tolist() == [pytest.approx(np.float32(of(*pair))) for pair in pairs]
    kept = int((scores >= np.float32(found["threshold"])).sum())
    assert found["ledger"] == {"pairs": len(pairs), "used": kept, "lost": {curation["policy"]: len(pairs) - kept}}
    assert 0 < kept < len(pairs)
    if "share" in curation:
        assert kept >= curation["share"] * len(pairs) > int((scores > np.float32(found["threshold"])).sum())


def test_a_model_scores_pairs_by_the_cosine_of_its_features(parts, curated, trained, tmp_path):
    data, manifest, *_ = parts
    model, _ = trained()
    save_weights(tmp_path / "weights.safetensors", model.state_dict())
    (tmp_path / "scorer.yaml").write_text(dump(model.params))
    options = ["--scorer", str(tmp_path / "scorer.yaml"), "--weights", str(tmp_path / "weights.safetensors")]
    scores, found = chosen(parts, curated(CLIP_SCORE), tmp_path, *options)
    model, tokenize = read_model(model.params, data, tmp_path / "weights.safetensors", "cpu")
    shard = open_shard(data / "shards", manifest["shards"][0])
    items = range(len(shard))
    images, _ = pixels(shard, items, model.params.model.image)
    with torch.no_grad():
        image, text = (
            model.encode_image(torch.from_numpy(images)),
            model.encode_text(tokenize([*map(shard.caption, items)])),
        )
        expected = (F.normalize(image, dim=1) * F.normalize(text, dim=1)).sum(dim=1)
    np.testing.assert_allclose(scores[: len(shard)], expected, atol=1e-5)
    assert found["ledger"]["used"] == math.ceil(manifest["samples"] / 4)


def test_the_training_order_has_each_pair_that_is_kept_once_an_epoch(parts, curated, tmp_path):
    _, manifest, *_ = parts
    scores, found = chosen(parts, curated(BALANCE), tmp_path)
    selection = Selection(tmp_path / "selection.json", manifest, 1)
    order = build_order(manifest, None, 4, 0, 2, selection=selection)
    kept, firsts = scores >= found["threshold"], np.cumsum([0, *(one["samples"] for one in manifest["shards"])])
    for epoch in range(2):
        places = [order.locate(position) for position in range(epoch * order.total, (epoch + 1) * order.total)]
        assert sorted(firsts[shard] + item for shard, item in places) == np.flatnonzero(kept).tolist()
    shard, item = order.locate(0)
    assert sorted(order.from_item(0, shard, item)) == selection.items(shard).tolist()
    cut = manifest | {"shards": [one | {"samples": 5} for one in manifest["shards"][:1]]}
    assert Selection(tmp_path / "selection.json", cut, 0).counts.tolist() == [kept[:5].sum()]


def test_a_variant_trains_on_what_is_kept_and_says_how_much(parts, change, tmp_path, capsys):
    """Equal epochs are equal steps, whatever is kept; without a selection, or with one that nobody asked for, it does
    not train."""
    data, manifest, *_ = parts
    small = merge(SMALL, {"train": {"batch": 20, "epochs": 1.0, "warmup_samples": 0}})
    params = change("clip", merge(small, {"curation": BALANCE}))
    _, found = chosen(parts, params, tmp_path)
    words = ["--data", data, "--seed", 0, "--checkpoints", tmp_path / "checkpoints", "--out", tmp_path / "out"]
    words = [*map(str, words), "--params", str(tmp_path / "clip.yaml")]
    pretrain.main([*words, "--selection", str(tmp_path / "selection.json")])
    training = read_json(tmp_path / "out/training.json")
    assert training["curation"] == found["ledger"]
    assert training["images"] == found["ledger"]["used"] < manifest["samples"]
    assert training["samples"] == manifest["samples"] // 20 * 20
    with pytest.raises(SystemExit):
        pretrain.main(words)
    assert "give both or none" in capsys.readouterr().err


def test_a_selection_of_other_data_or_of_too_few_pairs_is_refused(parts, curated, tmp_path):
    _, manifest, _, _ = parts
    chosen(parts, curated(BALANCE), tmp_path)
    with pytest.raises(ValueError, match=r"curation keeps \d+ pairs, fewer than a batch of 100000; keep more"):
        Selection(tmp_path / "selection.json", manifest, 100000)
    write_json(tmp_path / "selection.json", read_json(tmp_path / "selection.json") | {"manifest": "another"})
    with pytest.raises(ValueError, match="chosen from other data"):
        Selection(tmp_path / "selection.json", manifest, 1)


@pytest.mark.parametrize(
    ("curation", "message"),
    [
        ({"policy": "frequency", "share": 0.5}, "policy = 'frequency' needs word_threshold"),
        ({"policy": "balance", "cap": 0.1, "share": 0.5}, "policy = 'balance' does not read share; leave it out"),
        ({"policy": "clip-score", "by": "clip"}, "policy = 'clip-score' takes one of share and threshold"),
        (
            {"policy": "clip-score", "by": "clap", "share": 0.5},
            r"curation.by: unknown variant 'clap'; did you mean 'clip'",
        ),
        ({"policy": "clip-score", "by": "mae", "share": 0.5}, "'mae' has no text tower; name one that compares"),
        (
            {"policy": "clip-score", "by": "curated-clip-score", "share": 0.4},
            r"builds on chosen pairs \('curated-clip-",
        ),
    ],
)
def test_a_curation_that_cannot_be_is_refused(project, curation, message):
    tree = merge(project.tree, {"variants": {"mine": {"curation": curation}}})
    with pytest.raises(ParameterError, match=message):
        type(project)(tree, project.scale).check()
