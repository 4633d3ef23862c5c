"""Curves for TensorBoard and, offline, W&B: off unless the environment asks; every row of the log once, also
after a kill; weights are those of a training without them."""

import json
import sys
import time

import pytest
import torch

from flip.plan import preflight
from flip.train import loggers as module
from flip.train.checkpoint import Checkpoints
from flip.train.loggers import TENSORBOARD, WANDB, board, scalars
from flip.train.loop import Trainer, train
from tests.conftest import SMALL
from tests.test_train import make_run, weights


def test_rows_of_the_log_have_their_tags():
    row = {"samples": 8, "loss": 3.0, "contrastive": 2.0, "reconstruction": 1.0, "lr": 0.1, "scale": 20.0}
    found = scalars(row | {"samples_per_second": 50.0}, ["contrastive", "reconstruction"])
    assert found == {
        "loss/sum": 3.0, "loss/contrastive": 2.0, "loss/reconstruction": 1.0, "lr": 0.1, "samples_per_second": 50.0,
        "temperature": 0.05,
    }  # fmt: skip
    assert "temperature" not in scalars({"loss": 1.0, "lr": 0.1, "samples_per_second": 1.0}, [])


@pytest.fixture
def params(change):
    return change("flip-75-mae", {**SMALL, "train": {**SMALL["train"], "checkpoint_samples": 64}})


def test_nothing_is_imported_or_written_unless_asked_for(params, small_data, tmp_path, monkeypatch):
    for name, module_name in ((TENSORBOARD, "torch.utils.tensorboard"), (WANDB, "wandb")):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setitem(sys.modules, module_name, None)  # an import of it fails
    monkeypatch.chdir(tmp_path)
    with board(make_run(params, small_data)) as draw:
        draw()
    assert list(tmp_path.iterdir()) == []


class Killed(Exception):
    pass


def train_with_a_kill(params, data, folder, monkeypatch):
    """Killed after the 13th step, five beyond the last checkpoint; then called again to its end."""
    finish = Trainer.finish

    def ends(self, bar):
        finish(self, bar)
        if self.run.done == 13 and not (folder / "killed").exists():
            (folder / "killed").touch()
            raise Killed

    monkeypatch.setattr(Trainer, "finish", ends)
    with pytest.raises(Killed):
        train(make_run(params, data), Checkpoints(folder / "checkpoints", 2), folder)
    run = make_run(params, data)
    train(run, Checkpoints(folder / "checkpoints", 2), folder)
    return run


def test_a_killed_run_has_every_point_once(params, small_data, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv(TENSORBOARD, str(tmp_path / "curves"))
    run = train_with_a_kill(params, small_data, tmp_path, monkeypatch)
    found = accumulator.EventAccumulator(str(tmp_path / "curves" / "tiny" / "flip-75-mae" / "seed-0"))
    found.Reload()
    names = ("loss/sum", "loss/contrastive", "loss/reconstruction", "lr", "samples_per_second", "temperature")
    assert set(found.Tags()["scalars"]) == set(names)
    for tag, column in zip(names[:4], ("loss", "contrastive", "reconstruction", "lr"), strict=True):
        points = [(event.step, event.value) for event in found.Scalars(tag)]
        assert [step for step, _ in points] == [row["samples"] for row in run.log]
        assert [value for _, value in points] == pytest.approx([row[column] for row in run.log])
    monkeypatch.delenv(TENSORBOARD)
    plain = make_run(params, small_data)
    train(plain, Checkpoints(tmp_path / "plain", 2), tmp_path)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(plain).items())


def pieces(data: bytes):
    """What is in a file of LevelDB's log format, after W&B's seven bytes: blocks of 32 KB, each piece with seven bytes
    before it: checksum, length, and whether it is whole, a first, middle or last part."""
    place, held = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, part = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        held += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):
            yield held
            held = b""


def offline(path) -> tuple[str, list[dict]]:
    """The id of a run in a file of W&B's, and its points; once its service, a process of its own, has closed it."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(300):
        found = [Record.FromString(data) for data in pieces(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            break
        time.sleep(0.1)
    (name,) = {record.run.run_id for record in found if record.WhichOneof("record_type") == "run"}
    rows = [record.history.item for record in found if record.WhichOneof("record_type") == "history"]
    return name, [{"/".join(one.nested_key) or one.key: json.loads(one.value_json) for one in row} for row in rows]


def test_an_offline_run_of_wandb_has_every_point_and_one_name(params, small_data, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv(WANDB, str(tmp_path / "curves"))
    run = train_with_a_kill(params, small_data, tmp_path, monkeypatch)
    parts = [offline(path) for path in sorted((tmp_path / "curves/wandb").glob("offline-run-*/*.wandb"))]
    assert len(parts) == 2
    assert len({name for name, _ in parts}) == 1
    found = {point["_step"]: point for _, points in parts for point in points}  # the later part's count
    assert list(found) == [row["samples"] for row in run.log]
    for tag, column in (("loss/sum", "loss"), ("loss/contrastive", "contrastive"), ("lr", "lr")):
        assert [point[tag] for point in found.values()] == pytest.approx([row[column] for row in run.log])


@pytest.mark.parametrize("name", [TENSORBOARD, WANDB])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, name):
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, str(tmp_path / "file" / "curves"))
    assert f"{name}: {tmp_path}/file/curves cannot be written; name another folder" in module.find_problem()
    monkeypatch.setenv(name, str(tmp_path / "new" / "curves"))
    assert module.find_problem() is None


@pytest.mark.parametrize("name", [TENSORBOARD, WANDB])
def test_a_missing_package_is_named_before_training_and_before_it_waits(
    name, params, small_data, tmp_path, monkeypatch
):
    monkeypatch.setenv(name, str(tmp_path / "curves"))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with (
        pytest.raises(ValueError, match=f"{module.PACKAGES[name]} is not installed"),
        board(make_run(params, small_data)),
    ):
        pass
    assert f"{module.PACKAGES[name]} is not installed" in module.find_problem()
    assert preflight.board.find_problem is module.find_problem
    monkeypatch.delenv(name)
    assert module.find_problem() is None
    with board(make_run(params, small_data)) as draw:
        draw()
