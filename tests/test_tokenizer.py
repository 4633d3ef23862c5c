"""Tokenizers: WordPiece is learned the same each time, BERT's from a folder and CLIP's from open_clip give the ids of
their own libraries, and true lengths are kept."""

import subprocess
import sys

import numpy as np
import pytest

from flip.config.frozen import merge
from flip.config.schema import Captions
from flip.data.tokenizer import CaptionTokenizer, build, captions, train_wordpiece
from flip.files import read_json, write_json
from flip.model.text import PAD

TEXTS = ["A red star on grass!", "two blue boats", "IMG_2034 | free wallpaper", "é", ""]


def words(row):
    return [int(i) for i in row if i != PAD]


@pytest.fixture
def bert_folder(tmp_path):
    from transformers import BertTokenizerFast

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789_|!", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "red", "star", "on", "grass", "two", "##s"]
    vocab = {word: index for index, word in enumerate(dict.fromkeys(vocabulary))}
    BertTokenizerFast(vocab=vocab, do_lower_case=True).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def made(params, folder, texts=()):
    write_json(folder / "tokenizer.json", build(params, iter(texts)))
    return CaptionTokenizer(folder / "tokenizer.json", params.model.tokens, params.captions)


def test_wordpiece_is_learned_the_same_in_every_process(small_data):
    texts = (small_data / "captions.txt").read_text().splitlines()
    code = (
        "import json, sys; from flip.data.tokenizer import train_wordpiece\n"
        "print(json.dumps(train_wordpiece(iter(sys.stdin.read().splitlines()), 100), sort_keys=True))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], input="\n".join(texts), capture_output=True, text=True).stdout
        for _ in range(3)
    }
    assert len(runs) == 1
    assert len(train_wordpiece(iter(texts), 60)["model"]["vocab"]) <= 60


def test_lengths_are_kept_and_long_captions_cut(change, tmp_path):
    tokenizer = made(change("clip", {"model": {"tokens": 5}}), tmp_path, TEXTS)
    ids = tokenizer(["red star", "a red star on grass a red star", ""])
    assert ids.shape == (3, 5)
    assert (ids != PAD).sum(1).tolist() == [2, 5, 0]
    assert np.array_equal(tokenizer(["RED Star"])[0], ids[0])
    assert ids.max() < tokenizer.vocabulary


def test_start_and_end_tokens_surround_each_caption_however_long(change, tmp_path):
    """New ids where the vocabulary has none; a caption that is cut keeps its end; filled slots hold it again."""
    plain = made(change("clip", {"model": {"tokens": 5}}), tmp_path, TEXTS)
    delta = {"model": {"tokens": 5}, "captions": {"start": True, "end": True}}
    tokenizer = made(change("clip", delta), tmp_path, TEXTS)
    start, end = plain.vocabulary, plain.vocabulary + 1
    assert tokenizer.vocabulary == plain.vocabulary + 2
    red, star, on = plain(["red star on"])[0][:3]
    ids = tokenizer(["red star", "red star on grass", ""])
    assert ids.tolist() == [[start, red, star, end, PAD], [start, red, star, on, end], [start, end, PAD, PAD, PAD]]
    filled = made(change("clip", {"model": {"tokens": 5}, "captions": {"end": True, "fill": True}}), tmp_path, TEXTS)
    assert filled(["red star"]).tolist() == [[red, star, start, start, start]]  # the first new id is now the end's


def test_bert_from_a_folder_equals_transformers(change, tmp_path, bert_folder):
    from transformers import AutoTokenizer

    params = change("clip", {"model": {"tokens": 32}, "tokenizer": {"kind": "bert", "path": str(bert_folder)}})
    tokenizer, theirs = made(params, tmp_path), AutoTokenizer.from_pretrained(bert_folder)
    for row, text in zip(tokenizer(TEXTS), TEXTS, strict=True):
        assert words(row) == theirs(text, add_special_tokens=False)["input_ids"][:32]
    surrounded = made(
        params.model_copy(
            update={"captions": Captions(tokenizer="scale", languages=["en"], start=True, end=True, fill=False)}
        ),
        tmp_path,
    )
    for row, text in zip(surrounded(TEXTS), TEXTS, strict=True):
        assert words(row) == theirs(text)["input_ids"][:32]
    assert tokenizer.vocabulary == surrounded.vocabulary == len(theirs)


def test_clips_bpe_is_there_in_a_process_of_its_own():
    """As training and the tokenizer's stage are: nobody before them has made open_clip's imports possible."""
    code = "from flip.data.tokenizer import _clip_definition; print(_clip_definition()['vocabulary'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("49408\n", 0), done.stderr


@pytest.mark.parametrize("delta", [{"tokenizer": {"kind": "clip"}}, {"captions": {"tokenizer": "clip"}}])
def test_clip_equals_open_clip(change, tmp_path, delta):
    """The scale's tokenizer, or a variant's own."""
    from open_clip import SimpleTokenizer

    delta = merge(delta, {"model": {"tokens": 12}, "captions": {"start": True, "end": True}})
    tokenizer, texts = made(change("clip", delta), tmp_path), [*TEXTS, "an image of " * 9]
    theirs = SimpleTokenizer(context_length=12)(texts)
    for row, expected in zip(tokenizer(texts), theirs, strict=True):
        length = int(expected.argmax()) + 1  # the end token has the largest id
        assert words(row) == expected[:length].tolist()
    assert tokenizer.vocabulary == 49408


def test_a_missing_bert_is_named(change):
    with pytest.raises(ValueError, match="tokenizer: path = null, and kind = 'bert' needs a folder or a hub name"):
        change("clip", {"tokenizer": {"kind": "bert", "path": None}})
    params = change("clip", {"tokenizer": {"kind": "bert", "path": "nowhere/bert"}})
    with pytest.raises(ValueError, match=r"no tokenizer at 'nowhere/bert'"):
        build(params, iter(()))


def test_captions_come_from_the_shards(small_data):
    found = list(captions(read_json(small_data / "manifest.json"), small_data / "shards"))
    assert found == (small_data / "captions.txt").read_text().splitlines()
