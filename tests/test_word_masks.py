"""Masks that choose by words: counts are those of the captions, a word's tokens stay together, and what is kept follows
from seed, position and caption alone."""

from collections import Counter
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from flip.config.faults import ParameterError
from flip.data import word_counts, word_table
from flip.data.batch_types import PAD
from flip.data.pairs import SCHEMA
from flip.data.syntax import PARTS, part_of_speech
from flip.data.tokenizer import CaptionTokenizer, train_wordpiece
from flip.data.word_counts import count_words, split_words, write_counts
from flip.data.word_scores import TokenWords, WordScores, removal
from flip.data.word_table import read_counts, summed, words_path
from flip.files import write_json
from flip.model.masking import highest_tokens
from flip.rng import uniform
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from tests.conftest import SMALL

SLOTS = 60
CAPTIONS = [
    "a red dog runs on the wet grass",
    "the dog and the café",
    "a photographer is photographing a small building, quickly",
    "the the the the",
]


def test_words_are_letters_and_digits_in_a_row_or_one_other_character():
    assert split_words("The dog's mp3, café_1!") == ["the", "dog", "'", "s", "mp3", ",", "café", "_", "1", "!"]
    assert split_words("cafe\u0301") == ["café"]
    assert count_words(["a b a", None, "B"]) == {"a": 2, "b": 2}


def test_parts_add_up_to_the_counts_of_all_captions(tmp_path, change):
    """Each part by its own job, from its list of samples; words that are rarer than asked for are left out."""
    for part, captions in (("0", CAPTIONS[:2]), ("1", CAPTIONS[2:])):
        rows = [{"key": "", "url": "", "caption": caption, "sha256": ""} for caption in captions]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / f"list-{part}.parquet")
        word_counts.main(["--list", f"{tmp_path}/list-{part}.parquet", "--out", f"{tmp_path}/{part}.parquet"])
    counts = [f"{tmp_path}/{part}.parquet" for part in "01"]
    expected = count_words(CAPTIONS)
    from flip.config.frozen import dump

    (tmp_path / "params.yaml").write_text(dump(change("clip", {"tokenizer": {"least_count": 3}})))
    out = tmp_path / "words.parquet"
    word_table.main(["--params", f"{tmp_path}/params.yaml", "--counts", *counts, "--out", str(out)])
    assert read_counts(out) == {word: count for word, count in expected.items() if count >= 3} == {"the": 7, "a": 3}
    assert [*read_counts(out)] == ["the", "a"]
    with pytest.raises(ValueError, match="missing; `snakemake variant"):
        read_counts(tmp_path / "none.parquet")


@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_sorted_files_are_added_up_side_by_side(tmp_path, rows):
    """However few rows of each are held; one file ends before the others, and one is empty."""
    random, found = np.random.default_rng(rows), []
    words = [f"{'aé中😀'[number % 4]}{number}" for number in range(200)]
    for part, size in enumerate((150, 0, 20, 200)):
        counts = Counter({str(word): int(random.integers(1, 9)) for word in random.permutation(words)[:size]})
        write_counts(counts, tmp_path / f"{part}.parquet")
        found.append(counts)
    tables = [*summed([f"{tmp_path}/{part}.parquet" for part in range(4)], rows)]
    table = pa.concat_tables(tables)
    assert table["word"].to_pylist() == sorted({word for counts in found for word in counts})
    assert dict(zip(*table.to_pydict().values(), strict=True)) == sum(found, Counter())
    assert max(map(len, tables)) <= max(8 * rows, 8)


@pytest.fixture(scope="module", params=["scale", "clip"])
def tokenizer(request, tmp_path_factory, change):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    definition = train_wordpiece(CAPTIONS, 60)
    write_json(path, {"kind": "wordpiece", "vocabulary": len(definition["model"]["vocab"]), "definition": definition})
    captions = change("clip", {"captions": {"tokenizer": request.param, "start": True, "end": True}}).captions
    return CaptionTokenizer(path, SLOTS, captions)


def test_tokens_belong_to_the_words_that_the_tokenizer_makes_them_of(tokenizer):
    """One word after another, encoded by itself, has the tokens that it has in the caption; so has its hash."""
    words = TokenWords(tokenizer)
    for caption in CAPTIONS:
        parts = split_words(caption)
        encoded = tokenizer.encode(parts)
        assert [*chain.from_iterable(encoded)] == tokenizer.encode([caption])[0]
        first, hashes = words.find(tokenizer([caption]))
        slot = 1  # after the start token
        for tokens in encoded:
            found = words.find(np.array([tokens + [PAD] * (SLOTS - len(tokens))]))[1][0, 0]
            assert set(first[0, slot : slot + len(tokens)]) == {slot}
            assert set(hashes[0, slot : slot + len(tokens)]) == {found}
            slot += len(tokens)
        assert first[0, slot] == slot  # the end token is not the last word's


def scores_of(tokenizer, tmp_path, change, policy, counts, threshold=1e-3):
    write_counts(counts, tmp_path / "words.parquet")
    own = {"frequency_threshold": threshold} if policy == "frequency" else {}
    delta = {"masking": {"text": 0.5, "text_policy": policy, **own}}
    return WordScores(change("clip", delta).masking, tokenizer, tmp_path / "words.parquet", 3)


def test_frequency_is_clipfs_rule(tokenizer, tmp_path, change):
    """Of each word: a uniform number at its first slot minus 1 - sqrt(t / f); 1 for words that were not counted."""
    counts = count_words(CAPTIONS)
    del counts["dog"]
    total = sum(counts.values())
    scores = scores_of(tokenizer, tmp_path, change, "frequency", counts)
    ids, positions = torch.from_numpy(tokenizer(CAPTIONS)), torch.arange(50, 54)
    found = scores({"ids": ids, "positions": positions})["token_scores"]
    draws = uniform(3, "text", positions, SLOTS)
    for row, caption in enumerate(CAPTIONS):
        slot = 1
        assert found[row, 0] == np.inf
        for word in split_words(caption):
            spelt = "cafe" if word == "café" and tokenizer.stored["kind"] == "wordpiece" else word
            share = counts[word] / total if word != "dog" else None
            masked = 1 - min(1e-3 / share, 1) ** 0.5 if share else 1.0
            tokens = len(tokenizer.encode([spelt])[0])
            expected = torch.full((tokens,), draws[row, slot].item() - masked, dtype=torch.float64)
            torch.testing.assert_close(found[row, slot : slot + tokens], expected, rtol=0, atol=1e-12)
            slot += tokens
    again = scores({"ids": ids[2:3], "positions": positions[2:3]})["token_scores"]
    assert torch.equal(again, found[2:3])


def test_words_rarer_than_the_threshold_are_never_preferred_less_than_each_other():
    counts = np.array([1, 10, 100, 889])
    assert removal(counts, 0.01).tolist() == [0, 0, 1 - 0.1**0.5, 1 - (10 / 889) ** 0.5]


def test_frequent_words_are_kept_less_often(tokenizer, tmp_path, change):
    """Of "the dog and the café", half of the tokens are kept: rare words more often than "the", in order."""
    scores = scores_of(tokenizer, tmp_path, change, "frequency", count_words(CAPTIONS) | {"the": 5000}, 1e-4)
    ids = torch.from_numpy(tokenizer(["the dog and the dog"])).repeat(2000, 1)
    batch = scores({"ids": ids, "positions": torch.arange(2000)})
    kept = highest_tokens(batch["token_scores"], ids != PAD, 5)
    assert (kept.diff(dim=1) > 0).all()
    end = (ids[0] == tokenizer.after[0]).nonzero()[0].item()
    assert (kept == 0).any(dim=1).all()
    assert (kept == end).any(dim=1).all()
    the = tokenizer.encode(["the"])[0]
    share = torch.isin(ids.gather(1, kept), torch.tensor(the)).float().mean().item()
    assert share < 0.15  # of five tokens kept, at random 2 / 5 of three words would be


def test_the_highest_scores_are_kept_in_order_and_padding_last():
    scores = torch.tensor([[0.1, 0.5, 0.5, 0.4, 9.0], [0.1, 9.0, 9.0, 9.0, 9.0]])
    valid = torch.tensor([[True, True, True, True, False], [True, False, False, False, False]])
    assert highest_tokens(scores, valid, 2).tolist() == [[1, 2], [0, 1]]
    assert highest_tokens(scores, valid, 3).tolist() == [[1, 2, 3], [0, 1, 2]]


def test_parts_of_speech():
    expected = {
        "noun": "dog photographer building photograph wedding family happiness grass zebra butterfly",
        "adjective": "red small beautiful famous wooden colorful comfortable harmonious",
        "verb": "runs photographing sitting decorated visualize",
        "other": "the a on and quickly three 2015 , himself",
    }
    for part, words in expected.items():
        assert {part_of_speech(word, "en") for word in words.split()} == {part}, part
    with pytest.raises(ValueError, match="no parts of speech are known of the language 'xx'; known: en"):
        part_of_speech("dog", "xx")


def test_syntax_keeps_nouns_then_adjectives_then_verbs(tokenizer, tmp_path, change):
    scores = scores_of(tokenizer, tmp_path, change, "syntax", count_words(CAPTIONS))
    ids = torch.from_numpy(tokenizer(CAPTIONS))
    found = scores({"ids": ids, "positions": torch.arange(4)})["token_scores"]
    for row, caption in enumerate(CAPTIONS):
        slot = 1
        for word in split_words(caption):
            tokens = len(tokenizer.encode([word])[0])
            assert set(found[row, slot : slot + tokens].tolist()) == {-PARTS.index(part_of_speech(word, "en"))}, word
            slot += tokens
    spelt = {word: tokenizer.encode([word])[0] for word in ("red", "dog", "grass")}
    kept = 2 + sum(map(len, spelt.values()))  # start and end, too
    left = ids[:1].gather(1, highest_tokens(found[:1], ids[:1] != PAD, kept))[0].tolist()
    assert left[1:-1] == [*chain.from_iterable(spelt.values())]


@pytest.mark.parametrize("policy", ["frequency", "syntax"])
def test_languages_without_counts_are_refused(policy, change):
    delta = {"masking": {"text": 0.5, "text_policy": policy}}
    with pytest.raises(ParameterError, match=f"text_policy = '{policy}' counts the words of captions as they come"):
        change("msiglip", delta | {"form": {"text": {"pooling": "mean"}}})


def test_other_tokenizers_are_refused(tokenizer):
    tokenizer = type("Other", (), {"stored": {"kind": "fast", "definition": {"model": {"type": "Unigram"}}}})()
    tokenizer.before, tokenizer.after, tokenizer.slots, tokenizer.vocabulary = [], [], 4, 4
    with pytest.raises(ValueError, match="the ids of a Unigram tokenizer do not say where they begin"):
        TokenWords(tokenizer)


@pytest.mark.parametrize("policy", ["frequency", "syntax"])
def test_training_keeps_the_same_tokens_in_parts_of_a_batch(policy, small_data, tmp_path, change):
    """On one process, on each of two, and in micro-batches."""
    import shutil

    from flip.files import read_json

    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    write_counts(count_words((data / "captions.txt").read_text().splitlines()), words_path(data))
    params = change("clip", SMALL | {"masking": {"text": 0.5, "text_policy": policy}})
    manifest = read_json(data / "manifest.json")
    loader = build_loader(params, data, manifest, 0)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu")
    run = TrainingRun(params, loader, model, 10, 0, ProcessGroup())
    whole = run.on_device(loader.batch(0, 8))
    halves = [run.on_device(loader.batch(first, 4)) for first in (0, 4)]
    assert "token_scores" not in whole
    assert torch.equal(whole["kept_slots"], torch.cat([one["kept_slots"] for one in halves]))
    assert whole["lengths"].tolist() == [*halves[0]["lengths"], *halves[1]["lengths"]]
    run.step(loader.batch(0, 8))
