"""Stored ids are those that the tokenizer gives of the captions, whatever the captions and whoever stored them; other
captions, another tokenizer or a file that cannot be written never give wrong ones."""

import numpy as np
import pytest

from flip.config.schema import Captions
from flip.data import token_cache as module
from flip.data.shard import Shard
from flip.data.token_cache import Tokens, joined, words
from flip.data.tokenizer import CaptionTokenizer
from flip.files import read_json

PLAIN = {"tokenizer": "scale", "languages": ["en"], "start": False, "end": False, "fill": False}


@pytest.fixture
def tokens(small_data, tmp_path):
    """Of the small data, stored in a folder of the test's own."""
    (tmp_path / "shards").symlink_to(small_data / "shards")

    def make(translations=None, slots=8, **captions):
        tokenizer = CaptionTokenizer(small_data / "tokenizer.json", slots, Captions(**PLAIN | captions))
        return Tokens(tokenizer, tmp_path, read_json(small_data / "manifest.json"), translations)

    return make


def of_captions(found, number):
    """What the tokenizer itself gives of the captions of a shard."""
    shard = Shard(found.source / found.shards[number]["name"])
    return found.tokenizer([shard.caption(item) for item in range(len(shard))])


def ids(found, number):
    stored = found(number)
    return found.tokenizer.arranged([words(stored, item) for item in range(found.shards[number]["samples"])])


@pytest.mark.parametrize(
    "captions", [{}, {"start": True, "end": True}, {"tokenizer": "clip", "end": True, "fill": True}]
)
@pytest.mark.parametrize("slots", [2, 8, 64])
def test_stored_ids_are_the_tokenizers(tokens, captions, slots):
    found = tokens(slots=slots, **captions)
    for number in range(len(found.shards)):
        first = ids(found, number)
        assert np.array_equal(first, of_captions(found, number))
        assert np.array_equal(first, ids(tokens(slots=slots, **captions), number))


def test_what_stands_around_captions_needs_no_other_file(tokens):
    assert tokens().path(0) == tokens(slots=3, start=True).path(0)
    assert tokens().path(0) != tokens(tokenizer="clip").path(0)


@pytest.mark.parametrize("captions", [[], [[]], [[], [7], []], [[1, 2, 3], [], [70_000] * 500]])
def test_captions_of_any_length_are_kept(captions):
    stored = joined(captions)
    assert [words(stored, item).tolist() for item in range(len(captions))] == captions


def test_captions_are_encoded_once(tokens, monkeypatch):
    for first in range(2):
        tokens().encode(first, 2, workers=2)
    found = tokens()
    monkeypatch.setattr(found.tokenizer, "encode", None)
    assert len(list(found.folder.iterdir())) == len(found.shards) == 3
    found.encode(0, 1, workers=0)
    assert np.array_equal(ids(found, 1), of_captions(tokens(), 1))


def test_other_captions_and_other_code_have_files_of_their_own(tokens, monkeypatch):
    class Spoken:
        identity = "1"

        def __call__(self, number):
            return ["red"] * found.shards[number]["samples"]

    found = tokens()
    spoken = tokens(Spoken())
    assert spoken.path(0) != found.path(0)
    assert (ids(spoken, 0) == spoken.tokenizer(["red"])).all()
    found.shards[0]["sha256"] = "f" * 64
    assert found.path(0) != tokens().path(0)
    monkeypatch.setattr(module, "source_hash", lambda name: "other")
    assert tokens().folder != found.folder


def test_where_nothing_can_be_written_ids_are_the_same(tokens, tmp_path, capsys):
    (tmp_path / "tokens").write_text("a file in the way")
    found = tokens()
    found.encode(0, 1, workers=0)
    for number in range(3):
        assert np.array_equal(ids(found, number), of_captions(found, number))
    assert capsys.readouterr().err.count("captions are encoded again in each epoch") == 1
