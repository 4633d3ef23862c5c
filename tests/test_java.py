"""METEOR equals pycocoevalcap's, for each image and for all; its values have the spread that resampling finds; what
is not there is named, nothing is fetched, and a process that ends early says so."""

import os
import shutil
import signal
import stat
import sys
from random import Random
from threading import RLock

import numpy as np
import pytest

from flip.synthetic.shifts import captions_of
from flip.transfer import java
from flip.transfer.words import words

pytestmark = pytest.mark.long(1)

needs_meteor = pytest.mark.skipif(java.missing("meteor") is not None, reason=str(java.missing("meteor")))


@pytest.fixture(scope="module")
def said(project):
    """Captions, one of them empty, and five references for each of 60 images of the world."""
    world = project.resolve("clip").world
    texts = lambda index: [" ".join(words(text)) for text in captions_of(world, index)]  # noqa: E731
    random, references = Random(0), [texts(index) for index in range(60)]
    captions = [random.choice(references[(index + random.choice((0, 0, 1))) % 60]) for index in range(60)]
    return ["", *(" ".join(one.split()[: random.randint(2, 20)]) for one in captions[1:])], references


@needs_meteor
def test_meteor_equals_pycocoevalcap_and_has_the_spread_of_resampled_scores(said, monkeypatch):
    """The standard error of the values' mean is that of METEOR of images drawn anew, within 25 % (of 100 draws)."""
    from pycocoevalcap.meteor.meteor import Meteor

    captions, references = said
    answers = {row: [one] for row, one in enumerate(captions)}
    with java.without_spaces(java.jar("meteor/meteor-1.5.jar")) as path:
        monkeypatch.setattr("pycocoevalcap.meteor.meteor.METEOR_JAR", str(path))
        theirs = Meteor()
        theirs.lock = RLock()  # its __del__ takes it, too: after an error it would wait for ever
        whole, each = theirs.compute_score(dict(enumerate(references)), answers)
    for pipe in (theirs.meteor_p.stdout, theirs.meteor_p.stderr):
        pipe.close()
    draws = np.random.default_rng(0)
    with java.meteor_process() as process:
        counts = java.counted(process, captions, references)
        own, together = java.evaluated(process, counts)
        values = java.spread(process, counts)
        drawn = [java.evaluated(process, counts[draws.integers(0, 60, 60)])[1] for _ in range(100)]
    assert own == pytest.approx(each, abs=1e-6)
    assert together == pytest.approx(whole, abs=1e-6)
    assert values.mean() == pytest.approx(whole, abs=1e-6)
    assert values.std() / 60**0.5 == pytest.approx(np.std(drawn), rel=0.25)
    assert 0.1 < whole < 0.9


@needs_meteor
def test_meteor_runs_where_its_path_has_a_space(tmp_path, monkeypatch):
    folder = shutil.copytree(java.package() / "meteor", tmp_path / "with space" / "meteor").parent
    monkeypatch.setattr(java, "package", lambda: folder)
    assert 0 < java.meteor(["a red star"], [["a red star on grass"]])[0] < 1


@needs_meteor
def test_a_killed_process_says_so(said):
    with java.meteor_process() as process:
        os.kill(process.process.pid, signal.SIGKILL)
        with pytest.raises(ValueError, match=r"METEOR: its Java process was killed by signal 9 \(9: often for memory"):
            java.counted(process, *said)


def fake_java(folder, monkeypatch, body):
    """A program of this name that runs some Python."""
    path, script = folder / "java", folder / "java.py"
    script.write_text(f"import json, sys\n{body}\n")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


def test_an_error_of_java_is_told(tmp_path, monkeypatch):
    fake_java(tmp_path, monkeypatch, "sys.exit('no room for the heap')")
    with pytest.raises(ValueError, match=r"METEOR: its Java process ended with exit code 1: no room for the heap"):
        java.meteor(["a"], [["a"]])
    with pytest.raises(ValueError, match=r"SPICE: its Java process ended with exit code 1: no room for the heap"):
        java.spice(["a"], [["a"]])


def test_spice_is_read_by_image(tmp_path, monkeypatch):
    """From a program that scores the number of words, and writes the last image first."""
    body = """
asked, out = json.load(open(sys.argv[-4])), sys.argv[sys.argv.index("-out") + 1]
rows = [{"image_id": one["image_id"], "scores": {"All": {"f": len(one["test"].split()) / 10}}} for one in asked]
json.dump(rows[::-1], open(out, "w"))
"""
    fake_java(tmp_path, monkeypatch, body)
    assert java.spice(["a star", "a red star", ""], [["a"], ["b"], ["c"]]).tolist() == [0.2, 0.3, 0]


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(java, "package", lambda: tmp_path)
    fake_java(tmp_path, monkeypatch, "")
    assert java.missing("meteor") is None
    assert "SPICE needs stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar" in java.missing("spice")
    (tmp_path / "spice/lib").mkdir(parents=True)
    for name in java.PARSER:
        (tmp_path / "spice/lib" / name).touch()
    assert java.missing("spice") is None
    monkeypatch.setattr(java, "package", lambda: None)
    assert java.missing("meteor") == "METEOR needs the package pycocoevalcap: pip install 'flip[captioning]'"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert java.missing("spice") == "SPICE needs Java, which is not installed"
