"""No bit of a file that is read back changes unseen: checkpoints, stored tokens, features of locked towers, weights."""

import copy
import random
import re
from hashlib import sha256

import numpy as np
import pytest
import torch

from flip.data.checksum import TRAILER, check, checked, read_checked
from flip.data.feature_cache import FACTS, FeatureCache, features_path, write_features
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer
from flip.files import read_json, workspace, write_atomic, write_json
from flip.model.weights import load_weights, serialize
from flip.train.checkpoint import Checkpoints
from flip.train.loop import resume
from tests.conftest import SMALL
from tests.processes import together
from tests.test_train import advance, make_run

FLIPS = 300


def with_flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def some_bits(content: bytes, count: int) -> list[int]:
    """Bits all over a file, those of its digest among them."""
    rng = random.Random(0)
    end = [8 * (len(content) - 1 - place) + rng.randrange(8) for place in range(TRAILER)]
    return rng.sample(range(8 * len(content)), count) + end


def test_every_bit_of_a_file_counts(tmp_path):
    path = tmp_path / "file"
    with checked(path) as file:
        file.write(b"some content")
    whole = path.read_bytes()
    assert read_checked(path) == b"some content"
    assert check(path) == len(b"some content")
    assert whole.startswith(b"some content\nsha256 ")
    for bit in range(8 * len(whole)):
        path.write_bytes(with_flipped(whole, bit))
        for read in (read_checked, check):
            with pytest.raises(ValueError, match=r"no SHA-256 at its end|bits have changed"):
                read(path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(5000)], ids=["empty", "short", "zeros"])
def test_other_content_is_no_file_of_ours(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (read_checked, check):
        with pytest.raises(ValueError, match="no SHA-256 at its end: cut short, or written by an earlier version"):
            read(path)


@pytest.fixture(scope="module")
def stored(change, small_data, tmp_path_factory):
    """Two checkpoints of a run, the run's state at the first of them, and a run that can be restored."""
    run, folder = make_run(change("flip-50", SMALL), small_data), tmp_path_factory.mktemp("stored")
    checkpoints, states = Checkpoints(folder, keep=2), []
    for _ in range(2):
        advance(run, 2)
        states.append(copy.deepcopy(run.state()))
        checkpoints.save(run.seen, states[-1])
    checkpoints.wait()
    return checkpoints, states, run


def assert_equal(found, expected):
    leaves, others = (torch.utils._pytree.tree_leaves(one) for one in (found, expected))
    assert len(leaves) == len(others)
    for one, other in zip(leaves, others, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_no_flipped_bit_of_a_checkpoint_is_trained_on(stored, capsys):
    """Each is named in one line, and the state is that of the checkpoint before it."""
    checkpoints, (first, _), run = stored
    newest = checkpoints.paths()[0]
    whole = newest.read_bytes()
    for bit in some_bits(whole, FLIPS):
        newest.write_bytes(with_flipped(whole, bit))
        assert checkpoints.newest()["done"] == first["done"]
        said = capsys.readouterr().err
        assert re.fullmatch(rf"{newest}: cannot be read \(.*SHA-256.*\); the one before it is taken\n", said)
    resume(run, checkpoints)
    assert_equal(run.state(), first)
    newest.write_bytes(whole)


@pytest.mark.parametrize("spoil", [lambda x: b"", lambda x: x[:-1], lambda x: bytes(len(x)), lambda x: x + b"\n"])
def test_other_damage_is_noticed_too(stored, spoil):
    checkpoints, (first, second), _ = stored
    newest, _ = checkpoints.paths()
    whole = newest.read_bytes()
    newest.write_bytes(spoil(whole))
    assert checkpoints.newest()["done"] == first["done"]
    newest.write_bytes(whole)
    assert_equal(checkpoints.newest(), second)


def test_checkpoints_with_their_names_exchanged_are_none(stored):
    checkpoints, _, _ = stored
    newest, older = checkpoints.paths()
    contents = newest.read_bytes(), older.read_bytes()
    newest.write_bytes(contents[1])
    older.write_bytes(contents[0])
    with pytest.raises(ValueError, match="none of its checkpoints can be read; delete it to train from the start"):
        checkpoints.newest()
    newest.write_bytes(contents[0])
    older.write_bytes(contents[1])


def test_a_checkpoint_of_another_run_is_none_of_this_one(stored, tmp_path):
    """Of another seed, copied over the file of its name."""
    _, (_, second), run = stored
    for number in range(2):
        folder = workspace(tmp_path / f"seed-{number}", f"manifest seed-{number}")
        other = Checkpoints(folder, keep=2)
        other.save(run.seen, second)
        other.wait()
        assert other.newest()["done"] == second["done"]
    name = other.paths()[0].name
    (tmp_path / "seed-0" / name).write_bytes((tmp_path / "seed-1" / name).read_bytes())
    with pytest.raises(ValueError, match="none of its checkpoints can be read"):
        Checkpoints(tmp_path / "seed-0", keep=2).newest()


def test_one_of_an_earlier_version_is_not_trusted(tmp_path, capsys):
    torch.save({"done": 8}, tmp_path / f"checkpoint-{8:015d}.pt")
    with pytest.raises(ValueError, match="none of its checkpoints can be read"):
        Checkpoints(tmp_path, keep=2).newest()
    assert "no SHA-256 at its end: cut short, or written by an earlier version" in capsys.readouterr().err


def test_a_run_that_went_back_keeps_the_good_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for samples in (8, 16):
        checkpoints.save(samples, {"done": samples})
    checkpoints.wait()
    checkpoints.paths()[0].write_bytes(b"spoilt")
    assert checkpoints.newest() == {"done": 8}
    checkpoints.save(12, {"done": 12})
    checkpoints.wait()
    assert [int(path.stem[-15:]) for path in checkpoints.paths()] == [12, 8]


def resumed(world, params, data, folder):
    from tests.test_distributed import build

    run = build(world, params, data)
    checkpoints = Checkpoints(folder / ("a" if world.first else "b"), keep=2)
    with pytest.raises(ValueError, match="some processes would go on from step 2, others from step 0; it must lie on"):
        resume(run, checkpoints)


def test_processes_that_read_different_checkpoints_do_not_train(change, small_data, tmp_path):
    params = change("flip-50", SMALL)
    run = make_run(params, small_data)
    advance(run, 2)
    checkpoints = Checkpoints(tmp_path / "a", keep=2)
    checkpoints.save(run.seen, run.state())
    checkpoints.wait()
    together(2, resumed, params, small_data, tmp_path)


def test_stored_tokens_with_a_flipped_bit_are_encoded_again(small_data, tmp_path, change, capsys):
    tokens = stored_tokens(small_data, tmp_path, change)
    right = tokens()(0).copy()
    path = tokens().path(0)
    whole = path.read_bytes()
    for bit in some_bits(whole, 50):
        path.write_bytes(with_flipped(whole, bit))
        assert np.array_equal(tokens()(0), right)
        assert f"{path}: cannot be used" in capsys.readouterr().err
        assert path.read_bytes() == whole


def stored_tokens(data, folder, change):
    """Makes Tokens whose files lie in a folder of the test's own."""
    (folder / "shards").symlink_to(data / "shards")
    captions = change("clip", SMALL).captions
    tokenizer = CaptionTokenizer(data / "tokenizer.json", 8, captions)
    return lambda: Tokens(tokenizer, folder, read_json(data / "manifest.json"))


def test_features_with_a_flipped_bit_are_refused(tmp_path):
    shards = [{"name": f"{part}/00000.tar", "samples": 5} for part in (0, 1)]
    manifest, rows = {"id": "i", "shards": shards}, np.random.default_rng(0).random((2, 5, 4), np.float32)
    for shard, some in zip(shards, rows, strict=True):
        write_features(tmp_path, shard["name"], some)
    write_json(tmp_path / FACTS, {"manifest": "i", "weights": "w"})

    def read(number):
        return FeatureCache(tmp_path, manifest, "w", 4)(number)

    assert all(np.array_equal(read(number), some) for number, some in enumerate(rows))
    first, second = (features_path(tmp_path, shard["name"]) for shard in shards)
    whole = first.read_bytes()
    for bit in some_bits(whole, 50):
        first.write_bytes(with_flipped(whole, bit))
        with pytest.raises(ValueError, match=rf"{first}: .*; delete {tmp_path} and run the pipeline again"):
            read(0)
    first.write_bytes(second.read_bytes())  # those of another shard, of as many samples
    with pytest.raises(ValueError, match="another file renamed"):
        read(0)


def test_weights_with_a_flipped_bit_are_refused_where_their_training_left_its_facts(tmp_path):
    path, layer = tmp_path / "weights.safetensors", torch.nn.Linear(3, 2)
    whole = serialize(layer.state_dict())
    write_atomic(path, whole)
    load_weights(path, layer)
    write_json(tmp_path / "training.json", {"weights": sha256(whole).hexdigest()})
    load_weights(path, layer)
    for bit in range(0, 8 * len(whole), 37):
        path.write_bytes(with_flipped(whole, bit))
        with pytest.raises(ValueError, match="so it is not what training wrote"):
            load_weights(path, layer)
