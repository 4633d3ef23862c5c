"""A new objective is two files and a section of params.yaml: CyCLIP's cross-modal consistency (Goel et al. 2022,
arXiv:2205.14459, equation 2) is added to a copy of the package as anyone would, and all else follows."""

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

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
# One that owns modules, as a captioning decoder does.
CAPTIONER = '''
"""Describe the parameters of a captioning decoder."""

from pydantic import Field

from flip.config.objectives.section import ObjectiveSection
from flip.config.sections.types import Weight


class Captioner(ObjectiveSection):
    """Describe how much predicting the next token of a caption counts."""

    weight: Weight = Field(description="weight of the loss beside the contrastive one")
'''
DECODER = '''
"""Compute the cross entropy of each token of a caption, given the image and the tokens before it."""

import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD
from flip.losses.objective import Batch, Objective, Setting
from flip.model.transformer import full_precision


class Decoder(nn.Module):
    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        text, image = params.model.text, params.model.vision.width
        self.tokens, self.patches = nn.Embedding(vocabulary, text.width), nn.Linear(image, text.width)
        self.layer = nn.TransformerDecoderLayer(text.width, text.heads, dropout=0.0, batch_first=True, norm_first=True)
        self.predict = nn.Linear(text.width, vocabulary)

    def forward(self, towers, batch: Batch, seed: int) -> dict[str, Tensor]:
        tokens = self.tokens(batch["ids"][:, :-1].clamp(min=0))
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        states = self.layer(tokens, self.patches(towers.encoded), tgt_mask=causal, tgt_is_causal=True)
        return {"captions": full_precision(self.predict(states))}


class Captioner(Objective):
    reads_patches = True

    def __init__(self, setting: Setting):
        self.weight = setting.params.captioner.weight

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module:
        return Decoder(params, vocabulary)

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, target = outputs["captions"].transpose(1, 2), batch["ids"][:, 1:]
        return {"captioner": self.weight * F.cross_entropy(logits, target, ignore_index=PAD)}
'''
WITH_MODULES = {"flip/config/objectives/captioner.py": CAPTIONER, "flip/losses/captioner.py": DECODER}
PROJECT = ("flip", "rules", "Snakefile", "params.yaml", "configs")


def run(folder, code, *words):
    """What a program prints that finds the copy of the package."""
    command = [sys.executable, "-c", code, *map(str, words)]
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
    for path, text in (FILES | WITH_MODULES).items():
        (found[1] / path).write_text(text.lstrip())
    base = "  contrastive: {weight: 1.0}\n"
    edit(found[1], "params.yaml", base, f"{base}  cyclic: {{weight: 0.0}}\n  captioner: {{weight: 0.0}}\n")
    variants = "  cyclip: {cyclic: {weight: 0.25}}\n  captioned: {captioner: {weight: 2.0}}\n"
    edit(found[1], "params.yaml", "\nvariants:\n", f"\nvariants:\n{variants}")
    return found


def test_it_is_two_files():
    assert len(FILES) == len(WITH_MODULES) == 2


def test_what_was_there_depends_on_nothing_new(folders):
    """No variant is trained or evaluated again, no table made again, as a new objective exists."""
    before, after = (json.loads(run(folder, SPECS)) for folder in folders)
    assert before == {path: spec for path, spec in after.items() if not {"cyclip", "captioned"} & set(path.split("/"))}
    spec = after["specs/tiny/variants/cyclip/pretrain.json"]
    assert spec["parameters"]["cyclic"] == {"weight": 0.25}
    assert {"flip.losses.cyclic", "flip.config.objectives.cyclic"} < set(spec["plugins"])


TRAINED = """
import csv, sys
from flip.train.__main__ import main
main(sys.argv[1:])
with open(sys.argv[sys.argv.index("--out") + 1] + "/log.csv") as file:
    print(*[row["captioner" if "captioner" in row else "cyclic"] for row in csv.DictReader(file)])
"""


@pytest.mark.parametrize(("name", "weight"), [("cyclic", 0.25), ("captioner", 2.0)])
def test_it_trains(folders, change, small_data, tmp_path, name, weight):
    sections = {one: weight if one == name else 0.0 for one in ("cyclic", "captioner")}
    tail = "".join(f"{one}:\n  weight: {value}\n" for one, value in sections.items())
    (tmp_path / "params.yaml").write_text(dump(change("clip", SMALL)) + tail)
    words = ["--params", tmp_path / "params.yaml", "--data", small_data, "--seed", 0, "--out", tmp_path / "out"]
    first, *_, last = run(folders[1], TRAINED, *words, "--checkpoints", tmp_path / "checkpoints").split()
    assert float(first) > 0
    assert float(last) < float(first) if name == "captioner" else float(last) > 0
    stored = {one.split(".")[1] for one in load_file(tmp_path / "out" / "weights.safetensors") if "passes" in one}
    assert stored == ({"captioner"} if name == "captioner" else set())


PLANNED = """
from flip.config.resolve import read_project
from flip.plan.step import step_flops
from flip.train.work import work
project = read_project("params.yaml", "tiny")
print(*[step_flops(work(project.resolve(name))) for name in ("clip", "cyclip", "captioned")])
"""


def test_a_plan_counts_it(folders):
    clip, cyclic, captioner = map(float, run(folders[1], PLANNED).split())
    assert clip < cyclic < captioner


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
