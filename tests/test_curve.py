"""A curve over samples seen: points of checkpoints are those of an evaluation of their weights; checkpoints that go,
runs that are others and calls that come again do no harm; the training's end is its last point."""

import re

import pandas as pd
import pytest

from flip.evaluate.inputs import new_model
from flip.evaluate.kinds.classification import measure
from flip.evaluate.trial import Trial
from flip.files import write_atomic, write_json
from flip.model.weights import save_weights
from flip.provenance.trained import find
from flip.report.curve import Curve, read_state, run
from flip.train.checkpoint import Checkpoints
from flip.train.loop import log_csv
from tests.looked_at import small, write_folder, write_params
from tests.test_train import make_run

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture
def folder(tmp_path, small_data, monkeypatch):
    write_folder(tmp_path, small_data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Training:
    """One in progress, which logs each step."""

    def __init__(self, folder, params, seed=0):
        self.place = write_params(folder, params)
        self.run = make_run(params, folder / "data" / "tiny", seed)
        self.checkpoints = Checkpoints(folder / "checkpoints" / "tiny" / params.variant / "seed-0", 2)
        self.batches = self.run.batches()

    def advance(self, steps):
        for _ in range(steps):
            self.run.record(self.run.step(next(self.batches)), 1.0)
        self.checkpoints.save(self.run.seen, self.run.state())
        self.checkpoints.wait()

    def end(self):
        write_atomic(self.place / "log.csv", log_csv(self.run.log))
        write_json(self.place / "training.json", {"samples": self.run.seen})
        save_weights(self.place / "weights.safetensors", self.run.state()["model"])
        for path in self.checkpoints.paths():
            path.unlink()
        self.checkpoints.folder.rmdir()


def curve(folder, variant="clip"):
    run(variant, None, 0, None, follow=False)
    return pd.read_csv(folder / "curves" / "tiny" / variant / "seed-0" / "curve.csv")


@pytest.mark.parametrize(("variant", "metric"), [("clip", "fine"), ("mae", "fine-probe")])
def test_points_are_evaluations_of_checkpoints_and_outlive_them(folder, change, variant, metric):
    params = small(change, variant)
    training = Training(folder, params)
    expected = []
    for steps in (2, 3, 4):
        training.advance(steps)
        model, tokenize = new_model(params, folder / "data" / "tiny", "cpu")
        model.load_state_dict(training.run.model.state_dict())
        trial = Trial(model, tokenize, folder / "data" / "tiny", "fine", "cpu", probed=metric != "fine")
        found = measure(trial)[metric.removeprefix("fine")]
        expected.append(100 * float(found.mean()))
        if steps != 2:  # two checkpoints are kept: the first look sees two, the second one more
            curve(folder, variant)
    frame = curve(folder, variant)
    assert frame.samples.tolist() == [16, 40, 72]
    assert frame[metric].tolist() == pytest.approx(expected, abs=1e-3)
    assert (frame.low <= frame[metric]).all()
    assert (frame[metric] <= frame.high).all()
    training.end()
    assert curve(folder, variant).samples.tolist() == [16, 40, 72], "the end is the last checkpoint"
    for kind in ("svg", "png"):
        assert (folder / "curves" / "tiny" / variant / "seed-0" / f"curve.{kind}").stat().st_size > 1000


def test_a_look_evaluates_only_what_is_new(folder, change, monkeypatch):
    training = Training(folder, small(change, "clip"))
    training.advance(2)
    first = curve(folder)
    monkeypatch.setattr(Curve, "evaluated", lambda *_: pytest.fail("evaluated again"))
    pd.testing.assert_frame_equal(curve(folder), first)


def test_points_of_another_run_go(folder, change):
    training = Training(folder, small(change, "clip"))
    training.advance(2)
    training.advance(2)
    before = curve(folder)
    other = Training(folder, small(change, "clip"), seed=1)
    other.advance(2)
    for path in other.checkpoints.paths()[:1]:
        path.unlink()
    after = curve(folder)
    assert after.samples.tolist() == [16]
    assert after.loss[0] != before.loss[0]


def test_the_end_of_training_is_the_last_point(folder, change):
    training = Training(folder, small(change, "clip"))
    training.advance(2)
    curve(folder)
    for _ in range(3):
        training.run.record(training.run.step(next(training.batches)), 1.0)
    training.end()
    assert curve(folder).samples.tolist() == [16, 40]


def test_following_ends_with_the_training(folder, change, monkeypatch):
    training = Training(folder, small(change, "clip"))
    training.advance(2)
    looks = iter([lambda: training.advance(2), training.end])
    monkeypatch.setattr("flip.report.curve.time.sleep", lambda _: next(looks)())
    run("clip", None, 0, None, follow=True)
    frame = pd.read_csv(folder / "curves" / "tiny" / "clip" / "seed-0" / "curve.csv")
    assert frame.samples.tolist() == [16, 32]


def test_a_checkpoint_that_vanishes_is_passed_over(folder, change, monkeypatch):
    assert read_state(folder / "checkpoint-000000000000016.pt") is None
    training = Training(folder, small(change, "clip"))
    training.advance(2)
    training.advance(2)
    gone = training.checkpoints.paths()[0].name
    monkeypatch.setattr("flip.report.curve.read_state", lambda path: None if path.name == gone else read_state(path))
    assert curve(folder).samples.tolist() == [16]


def test_what_cannot_be_followed_is_said(folder, change):
    for variant, params, message in (
        ("clip", None, "'clip' has not been trained"),
        ("flava-text", small(change, "flava-text"), "no image tower"),
        ("flip-50", small(change, "flip-50"), "weights.safetensors: not found; `snakemake variant"),
    ):
        if params:
            write_params(folder, params)
        with pytest.raises(ValueError, match=re.escape(message)):
            run(variant, None, 0, None, follow=False)
    find("clip", "tiny", 0).checkpoints.mkdir(parents=True)
    write_params(folder, small(change, "clip"))
    assert "no checkpoint yet" in run("clip", None, 0, None, follow=False).as_text()


def test_a_checkpoint_with_a_flipped_bit_is_left_out(folder, change, capsys):
    training = Training(folder, small(change, "clip"))
    training.advance(2)
    training.advance(2)
    newest = training.checkpoints.paths()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert curve(folder).samples.tolist() == [16]
    assert f"{newest.relative_to(folder)}: cannot be read (its content is not" in capsys.readouterr().err
