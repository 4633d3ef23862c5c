"""Whatever ends a run, and however often, the next call goes on: same weights, bit for bit, each sample as often."""

import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from flip.config.frozen import dump
from flip.files import read_json, write_atomic
from flip.train.checkpoint import Checkpoints
from flip.train.loop import train
from tests.conftest import SMALL
from tests.disturbed import pretrain_with
from tests.processes import ended
from tests.test_train import make_run

pytestmark = pytest.mark.long(1)

STEPS = 12


@pytest.fixture(scope="module")
def call(change, small_data, tmp_path_factory):
    """call(name, accident, step, processes): trains in a folder of that name; exit codes and what was said."""
    folder = tmp_path_factory.mktemp("runs")
    delta = {**SMALL["train"], "epochs": STEPS * 8 / 120, "checkpoint_samples": 16, "stall_minutes": 0.05}
    params = change("flip-75-mae", {**SMALL, "train": delta})
    write_atomic(folder / "params.yaml", dump(params))

    def run(name, accident="none", step=-1, processes=1):
        out = folder / name
        words = ["--params", folder / "params.yaml", "--data", small_data, "--seed", 0, "--out", out]
        log = folder / f"{name}-{accident}-{step}.log"
        return ended(log, processes, pretrain_with, accident, step, [*words, "--checkpoints", out / "checkpoints"])

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def undisturbed(call):
    assert call("whole")[0] == [0]
    return result(call.folder / "whole")


def result(folder):
    log = pd.read_csv(folder / "log.csv").drop(columns="samples_per_second")
    return load_file(folder / "weights.safetensors"), log, read_json(folder / "training.json")


def assert_same(found, expected):
    assert all(torch.equal(tensor, found[0][name]) for name, tensor in expected[0].items())
    pd.testing.assert_frame_equal(found[1], expected[1])
    assert found[2]["samples"] == found[2]["steps"] * 8 == STEPS * 8


@pytest.mark.parametrize(
    ("accidents", "expected", "message"),
    [
        # Before the first checkpoint; after it; in the step that follows a restart.
        ([("kill", 0), ("kill", 3), ("kill", 2)], [-signal.SIGKILL] * 3, ""),
        ([("term", 0), ("term", 1)], [143, 143], "start again to resume"),
        ([("writer", 2), ("writer", 4)], [-signal.SIGKILL] * 2, ""),
        (
            [("disk", 3)],
            [1],
            "no checkpoint could be written ([Errno 27] File too large); make room",
        ),
        ([("memory", 5)], [1], "set train.micro_batch"),
        ([("hang", 5)], [1], "nothing has happened for"),
    ],
    ids=["killed", "stopped", "killed in a write", "disk full", "out of memory", "hanging"],
)
def test_a_run_that_was_ended_ends_as_one_that_was_not(call, undisturbed, accidents, expected, message):
    name = "-".join(f"{what}{step}" for what, step in accidents)
    for (accident, step), code in zip(accidents, expected, strict=True):
        codes, said = call(name, accident, step)
        assert codes == [code], said
        assert not (call.folder / name / "weights.safetensors").exists()
        assert message in said
    codes, said = call(name)
    assert codes == [0], said
    assert_same(result(call.folder / name), undisturbed)
    assert not (call.folder / name / "checkpoints").exists()


def test_a_hang_says_where(call):
    said = call("where", "hang", 1)[1]
    assert "in: the step after 8 samples" in said
    assert "in hang" in said
    assert "train.stall_minutes" in said


def test_a_step_that_is_not_finite_is_left_out_and_named(call, undisturbed, small_data):
    """On resuming, too: the accident comes once, the step stays left out."""
    codes, said = call("nan", "nan", 4)
    assert codes == [0], said
    _, _, facts = result(call.folder / "nan")
    assert (facts["skipped_steps"], facts["steps"]) == (1, STEPS)
    assert "after 32 samples" in said
    pairs = read_json(call.folder / "nan" / "nonfinite-32-0.json")["pairs"]
    assert len(set(pairs)) == 8
    for pair in pairs:
        tar, key = pair.rsplit(": ", 1)
        assert key.encode() in Path(tar).read_bytes()
    weights = load_file(call.folder / "nan" / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert not torch.equal(weights["log_scale"], undisturbed[0]["log_scale"])


def test_too_many_such_steps_end_the_run(change, small_data, tmp_path):

    run = make_run(change("flip-50", {**SMALL, "train": {**SMALL["train"], "skip_nonfinite": 2}}), small_data)
    torch.nn.init.constant_(run.model.image_projection.weight, float("inf"))
    with pytest.raises(ValueError, match=r"not finite after 16 samples .*skip_nonfinite = 2 such steps"):
        train(run, Checkpoints(tmp_path / "checkpoints", 2), tmp_path)
    assert len(list(tmp_path.glob("nonfinite-*.json"))) == 3


def test_a_stop_file_ends_the_run_with_a_checkpoint(call, undisturbed, monkeypatch):
    stop = call.folder / "stop"
    stop.touch()
    monkeypatch.setenv("FLIP_STOP_FILE", str(stop))
    assert call("file")[0] == [143]
    assert len(list((call.folder / "file" / "checkpoints").glob("checkpoint-*.pt"))) == 1
    stop.unlink()
    assert call("file")[0] == [0]
    assert_same(result(call.folder / "file"), undisturbed)


def test_two_processes_stop_together_and_one_goes_on(call, undisturbed):
    """SIGTERM reaches one of them; all write one checkpoint, and a single process ends the run."""
    codes, said = call("two", "term", 5, processes=2)
    assert codes == [143, 143]
    assert said.count("stopped after 48 samples") == 2
    assert call("two")[0] == [0]
    _, log, facts = result(call.folder / "two")
    assert facts["samples"] == STEPS * 8
    pd.testing.assert_frame_equal(log, undisturbed[1], rtol=0.001)


def test_the_newest_checkpoint_that_can_be_read_is_taken(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for samples in (8, 16, 24):
        checkpoints.save(samples, {"done": samples})
    checkpoints.wait()
    assert [path.name for path in checkpoints.paths()] == [f"checkpoint-{n:015d}.pt" for n in (24, 16)]
    assert checkpoints.newest() == {"done": 24}
    checkpoints.paths()[0].write_bytes(b"spoilt")
    assert checkpoints.newest() == {"done": 16}
    assert "cannot be read" in capsys.readouterr().err
    checkpoints.paths()[1].write_bytes(b"")
    with pytest.raises(ValueError, match="none of its checkpoints can be read; delete it"):
        checkpoints.newest()


def test_a_checkpoint_of_another_seed_or_of_other_parameters_is_thrown_away(change, small_data, tmp_path):
    """Without a recipe (--spec), too: the folder is the same, what is asked for is not."""
    folder = tmp_path / "checkpoints"

    def stopped(rate, seed, accident, step):
        delta = {**SMALL["train"], "epochs": 0.3, "warmup_samples": 0, "base_lr": rate}
        write_atomic(tmp_path / "params.yaml", dump(change("flip-50", {**SMALL, "train": delta})))
        words = ["--params", tmp_path / "params.yaml", "--data", small_data, "--seed", seed, "--out", tmp_path / "out"]
        return ended(tmp_path / "log", 1, pretrain_with, accident, step, [*words, "--checkpoints", folder])

    for rate, seed in ((0.01, 0), (0.01, 1), (0.02, 1)):
        codes, said = stopped(rate, seed, "kill", 0)
        assert codes == [-signal.SIGKILL], said
        assert not list(folder.glob("*.pt"))
        assert stopped(rate, seed, "term", 1)[0] == [143]
        assert len(list(folder.glob("*.pt"))) == 1
