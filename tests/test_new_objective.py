"""A new objective is two files and a section of params.yaml: CyCLIP's cross-modal consistency (Goel et al. 2022,
arXiv:2205.14459, equation 2) is added to a copy of the package as anyone would, and all else follows."""

import json
import shutil
import subprocess
import sys

import pytest

from flip.config.frozen import dump
from tests.conftest import SMALL
from tests.miniature import ROOT, edit

SECTION = '''
"""Describe the parameters of CyCLIP's cross-modal consistency."""

from typing import ClassVar

from pydantic import Field

from flip.config.objectives.section import Facts, ObjectiveSection
from flip.config.sections.types import Weight


class Cyclic(ObjectiveSection):
    """Describe how alike the cosines of an image i with caption j and of image j with caption i are to be."""

    aligns: ClassVar[bool] = True
    facts: ClassVar[Facts] = {"cyclic weight": (lambda one: f"{one.weight:g}", ("weight",))}

    weight: Weight = Field(description="weight of the loss beside the contrastive one")
'''
LOSS = '''
"""Compute CyCLIP's cross-modal consistency (Goel et al. 2022, equation 2)."""

from torch import Tensor

from flip.losses.objective import Batch, Objective, Scope, Setting


class Cyclic(Objective):
    """Sum the squared differences of mirrored cosines, averaged over images."""

    scope = Scope.GLOBAL_BATCH

    def __init__(self, setting: Setting):
        self.weight, self.group = setting.params.cyclic.weight, setting.group

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image, text = (self.group.all_gather(outputs[name]) for name in ("image", "text"))
        cosines = image @ text.T
        loss = (cosines - cosines.T).square().sum() / len(image) / self.group.size
        return {"cyclic": self.weight * loss}
'''
FILES = {"flip/config/objectives/cyclic.py": SECTION, "flip/losses/cyclic.py": LOSS}
PROJECT = ("flip", "rules", "Snakefile", "params.yaml", "configs")


def run(folder, code, *words):
    """What a program prints that finds the copy of the package."""
    command = [sys.executable, "-c", code, *map(str, words)] if "\n" in code or " " in code else [code, *words]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


SPECS = """
import json
from pathlib import Path
from flip.config.resolve import read_project
from flip.provenance.specs import stages
project = read_project("params.yaml", "tiny")
print(json.dumps({spec.path: json.loads(spec.text(Path("rules"))) for spec in stages(project)}))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The project as it is, and with the objective."""
    found = []
    for name in ("before", "after"):
        folder = tmp_path_factory.mktemp(name)
        for part in filter(lambda one: (ROOT / one).exists(), PROJECT):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        found.append(folder)
    for path, text in FILES.items():
        (found[1] / path).write_text(text.lstrip())
    edit(
        found[1],
        "params.yaml",
        "  contrastive: {weight: 1.0}\n",
        "  contrastive: {weight: 1.0}\n  cyclic: {weight: 0.0}\n",
    )
    edit(found[1], "params.yaml", "\nvariants:\n", "\nvariants:\n  cyclip: {cyclic: {weight: 0.25}}\n")
    return found


def test_it_is_two_files():
    assert len(FILES) == 2


def test_what_was_there_depends_on_nothing_new(folders):
    """No variant is trained or evaluated again, no table made again, as a new objective exists."""
    before, after = (json.loads(run(folder, SPECS)) for folder in folders)
    assert before == {path: spec for path, spec in after.items() if "cyclip" not in path}
    spec = after["specs/tiny/variants/cyclip/pretrain.json"]
    assert spec["parameters"]["cyclic"] == {"weight": 0.25}
    assert {"flip.losses.cyclic", "flip.config.objectives.cyclic"} < set(spec["plugins"])


TRAINED = """
import csv, sys
from flip.train.__main__ import main
main(sys.argv[1:])
with open(sys.argv[sys.argv.index("--out") + 1] + "/log.csv") as file:
    print(max(float(row["cyclic"]) for row in csv.DictReader(file)))
"""


def test_it_trains(folders, change, small_data, tmp_path):
    params = dump(change("clip", SMALL))
    (tmp_path / "params.yaml").write_text(f"{params}cyclic:\n  weight: 0.25\n")
    words = ["--params", tmp_path / "params.yaml", "--data", small_data, "--seed", 0, "--out", tmp_path / "out"]
    assert float(run(folders[1], TRAINED, *words, "--checkpoints", tmp_path / "checkpoints")) > 0


LABELS = """
from flip.config.resolve import read_project
from flip.report.labels import labels
project = read_project("params.yaml", "tiny")
print("|".join(labels([project.resolve(name) for name in ("clip", "cyclip")])))
"""


def test_a_table_calls_it_by_its_name(folders):
    assert run(folders[1], LABELS).strip() == "cyclic weight 0|cyclic weight 0.25"


EQUAL = """
import torch
import torch.nn.functional as F
from flip.config.resolve import read_project
from flip.losses import Setting, objectives
torch.manual_seed(0)
image, text = (F.normalize(torch.randn(5, 3).double(), dim=1) for _ in range(2))
_, cyclic = objectives(Setting(read_project("params.yaml", "tiny").resolve("cyclip")))
found = cyclic({}, {"image": image, "text": text})["cyclic"]
expected = sum((image[j] @ text[k] - image[k] @ text[j]) ** 2 for j in range(5) for k in range(5)) / 5
print((found / expected).item())
"""


def test_its_loss_is_the_double_loop_of_the_paper(folders):
    assert float(run(folders[1], EQUAL)) == pytest.approx(0.25, rel=1e-12)
