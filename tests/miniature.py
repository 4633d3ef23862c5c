"""The whole pipeline in miniature: parameters that run in a minute, and how the tests call Snakemake, DVC and Git."""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from flip.config.chosen import SWEEPS, TIMES
from flip.config.frozen import to_yaml
from flip.config.tree import read_tree
from tests.conftest import SMALL

ROOT = Path(__file__).parent.parent
FILES = ["Snakefile", "params.yaml", "configs", "chosen", "dvc.yaml", "dvc.lock", "rules", "flip", "profiles", "slurm"]
FILES += [".dvc", ".dvcignore", ".gitattributes", ".gitignore", "runs"]
# Of these folders; what was chosen for `tiny` is not for its miniature.
LEFT = ["tmp", "cache", "__pycache__", SWEEPS, TIMES]
VARIANTS = ("clip", "flip-50", "flip-75", "flip-50-tuned", "flip-75-mae")
METRICS = ["fine", "coarse", "retrieval-image-r1"]
WHO = {f"GIT_{role}_{what}": "tests@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def environment(folder) -> dict:
    """As after `. .venv/bin/activate`; DVC's own notes stay in the folder; Snakemake starts as jobs of a cluster do."""
    startup = f"{ROOT}/slurm/startup{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    dvc = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{folder}/.dvc/tmp/site"}
    return os.environ | WHO | dvc | {"PATH": path, "PYTHONPATH": startup}


def call(folder, *words, check=True) -> str:
    """Runs a command in a folder; gives what it printed."""
    done = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output
    return output


def snakemake(folder, *words, check=True) -> str:
    return call(folder, "snakemake", *words, check=check)


def dvc(folder, *words, check=True) -> str:
    return call(folder, "dvc", *words, check=check)


def planned(output) -> dict[str, int]:
    """Jobs by rule, from a dry run's table."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE) if name != "total"}


def ran(output) -> list[str]:
    """The rules of jobs that Snakemake started, from what it printed."""
    return re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE)


def edit(folder, name, old, new) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@cache
def known_code() -> Path:
    """Where copies of the workflow remember what they have read of the package's code, by its bytes."""
    folder = tempfile.mkdtemp(prefix="flip-code-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def copy_workflow(folder):
    """The workflow's files, and nothing that a run has made but for what it has read of the code."""
    for name in FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*LEFT))
        else:
            shutil.copy(source, folder / name)
    (folder / ".flip").mkdir()
    (folder / ".flip/code").symlink_to(known_code())
    return folder


# Test sets of the miniature: one of each way of scoring that its tables and pages show.
SETS = ("fine", "coarse", "validation", "retrieval", "sketch", "pointing")
COUNTS = {
    "coarse": 32,
    "fine": 128,
    "validation": 128,
    "shifted": 16,
    "retrieval": 12,
    "pointing": 16,
    "entailment": 32,
}


def shrink(tree):
    """params.yaml with a world, a model and a list of variants that train in seconds."""
    probe = {"coarse": 32, "fine": 256, "validation": 128, "entailment": 64}
    tree["base"]["world"] |= {"images": 300, "duplicates": 0.1, "leaked": 0.02, "tests": COUNTS, "probe": probe}
    tree["base"]["download"] |= {"at_once": 1, "timeout": 5, "retries": 0, "samples_per_shard": 100}
    tree["base"]["shards"]["samples_per_shard"] = 50
    tree["base"]["bootstrap"]["resamples"] = 200
    tree["models"]["tiny"] = {**SMALL["model"], "tokens": 12}
    tested = {"batch": 64, "probe": ["coarse"], "sets": dict.fromkeys(SETS, "world")}
    tree["scales"]["tiny"] |= {
        "seeds": [0],
        "sweep": {},
        "train": {"batch": 16, "base_lr": 0.01, "epochs": 2.0, "warmup_samples": 50},
        "tuning": {"masking": {"image": 0.0}, "train": {"epochs": 1.0, "base_lr": 0.001, "warmup_samples": 20}},
        "reconstruction": SMALL["reconstruction"],
        "cost": {"rounds": 3, "batch": 16},
        "evaluate": tree["scales"]["tiny"]["evaluate"] | tested,
        "transfer": SMALL["transfer"] | {"steps": 20},
    }
    tree["variants"] = {name: tree["variants"][name] for name in VARIANTS}
    tree["reports"] = {"ablations": tree["reports"]["ablations"]}
    tree["tables"] = {
        "a": table("Mask ratio", ["clip", "flip-50", "flip-75"], METRICS),
        "d": table("Inference", ["flip-50", "flip-75"], ["fine-masked", "fine-ensemble"]),
        "e": table("Tuning", ["flip-50", "flip-50-tuned"], ["fine"]),
        "f": table("Decoder", ["flip-75", "flip-75-mae"], ["fine"]),
    }
    curves = {"mask 0%": ["clip"], "mask 50%": ["flip-50"]}
    tree["tradeoff"] = {"report": "ablations", "metric": "fine", "curves": curves}
    return tree


def table(title, variants, metrics):
    return {"title": title, "report": "ablations", "variants": variants, "metrics": metrics}


def write_params(folder, change) -> None:
    """Replaces params.yaml by what `change` makes of it, reports included and every `like` written out."""
    path = folder / "params.yaml"
    path.write_text(to_yaml(change(read_tree(path))))
