"""A kind of test set is two files: counting is added to a copy of the package, and the ordinary commands check, measure
and name it, with nothing else of the package touched."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from flip.config.frozen import dump
from flip.files import read_json, write_atomic
from flip.formats.contents import add
from flip.losses import build_towers
from flip.model.weights import save_weights
from tests.colour_sets import write_set
from tests.conftest import SMALL
from tests.miniature import ROOT

DECLARED = '''"""Images of one to four things: a .txt holds how many."""

from flip.config.kinds.kind import Kind
from flip.formats.layout import is_number, text

MOST = 4


def number(content: bytes, where: str) -> int:
    """Read how many things there are, less one."""
    found = text(content, where).strip()
    if not is_number(found) or not 1 <= int(found) <= MOST:
        raise ValueError(f"{where}.txt is '{found}', not a number from 1 to {MOST}")
    return int(found) - 1


class Counting(Kind):
    """Of four prompts, the one with the right number should fit best."""

    name = "counting"

    def target(self, folder):
        """Return how a number is read."""
        return "txt", number

    def facts(self, folder, name, measure):
        """Check the numbers; return what guessing gives."""
        return super().facts(folder, name, measure) | {"chance": 100 / MOST}


KIND = Counting()
'''
MEASURED = '''"""Measure whether a model can count, by prompts."""

from flip.evaluate import zeroshot
from flip.evaluate.encoders import Cached
from flip.evaluate.features import compute
from flip.config.kinds.counting import MOST


def measure(trial):
    """Return 1 where the prompt with the right number fits best, else 0."""
    if not trial.params.aligned:
        return {}
    batches = compute(trial.model, trial.read(), trial.device).batches()
    numbers = [str(count) for count in range(1, MOST + 1)]
    return {"": zeroshot.outcomes(Cached(trial.model), trial.tokenize, batches, numbers, ["{c} things"], trial.device)}
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with the new kind: two files, of which none was there."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "flip", folder / "flip", ignore=shutil.ignore_patterns("__pycache__"))
    for place, content in (("config", DECLARED), ("evaluate", MEASURED)):
        path = folder / "flip" / place / "kinds" / "counting.py"
        assert not path.exists()
        path.write_text(content)
    return folder


def call(package: Path, *words) -> subprocess.CompletedProcess:
    """Run Python where the copy is the package."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)


def counted(folder: Path, numbers: list[str]) -> Path:
    """A set of grey images with these numbers beside them."""
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for place, number in enumerate(numbers):
            image = np.full((20, 20, 3), 10 * place, np.uint8)
            add(tar, f"{place:06d}.jpg", simplejpeg.encode_jpeg(image))
            add(tar, f"{place:06d}.txt", number.encode())
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "dataset_type.txt").write_text("counting\n")
    return folder


def test_a_new_kind_is_checked_measured_and_named(package, change, small_data, tmp_path):
    own, data = counted(tmp_path / "mine", ["1", "2", "3", "4", "4", "2"]), tmp_path / "data"
    shutil.copytree(small_data, data)
    write_set(data / "tests" / "fine")
    params = change("clip", SMALL | {"evaluate": {"batch": 4, "probe": []}})
    evaluate = params.evaluate.model_copy(update={"sets": {"fine": "world", "things": str(own)}, "languages": {}})
    params = params.model_copy(update={"evaluate": evaluate})
    write_atomic(tmp_path / "params.yaml", dump(params))
    given = ["--params", tmp_path / "params.yaml"]

    done = call(package, "-m", "flip.testsets.revision", *given, "--set", "things", "--out", data / "tests" / "things")
    assert done.returncode == 0, done.stderr
    facts = read_json(data / "tests" / "things" / "revision.json")
    assert (facts["samples"], facts["classes"], facts["chance"]) == (6, 0, 25.0)

    vocabulary = read_json(data / "tokenizer.json")["vocabulary"]
    save_weights(tmp_path / "w.safetensors", build_towers(params, vocabulary).state_dict())
    given += ["--data", data, "--weights", tmp_path / "w.safetensors", "--seed", 0, "--out", tmp_path / "out"]
    done = call(package, "-m", "flip.evaluate", *given)
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "out" / "metrics.json")
    assert set(found["metrics"]) == {"fine", "things"}
    with np.load(tmp_path / "out" / "outcomes.npz") as outcomes:
        assert outcomes["things"].shape == (6,)
        assert found["metrics"]["things"] == pytest.approx(100 * outcomes["things"].mean(), abs=1e-3)


def test_a_new_kind_is_refused_where_its_numbers_are_none(package, change, tmp_path):
    own = counted(tmp_path / "mine", ["1", "many"])
    params = change("clip", {"evaluate": {"sets": {"viewpoint": str(own)}}})
    write_atomic(tmp_path / "params.yaml", dump(params))
    words = ["--params", tmp_path / "params.yaml", "--set", "viewpoint", "--out", tmp_path / "out"]
    done = call(package, "-m", "flip.testsets.revision", *words)
    assert done.returncode == 1
    assert done.stderr.endswith("mine/test/0.tar: 000001.txt is 'many', not a number from 1 to 4\n")


def test_names_of_its_metrics_are_known_and_its_code_counts(package, tmp_path):
    own = counted(tmp_path / "mine", ["1"])
    code = f"""
from flip.config.roles import TestSet, fault
sets = {{"things": TestSet("things", {str(own)!r})}}
print(fault("things", sets), fault("things-image", sets))
from flip.provenance.sources import sources
print([path.parts[-3] for path in sources("flip.evaluate") if path.name == "counting.py"])
print([path.parts[-3] for path in sources("flip.testsets.revision") if path.name == "counting.py"])
import sys
print("torch" in sys.modules)
"""
    said = call(package, "-c", code)
    assert said.stdout.splitlines() == [
        "None metric 'things-image': things has none; did you mean 'things'?; known: things",
        "['config', 'evaluate']",
        "['config']",
        "False",
    ], said.stderr
