"""Measure how long Snakemake and DVC take to find what has to be done, in a project of many variants and shards.

    python -m benchmarks.versioning --variants 40 --shards 2000 --out versioning.json

Rules, receipts, DVC and Git are the real ones, in a folder of their own; only the stages are not: each writes a few
bytes to its outputs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from flip.config.tree import read_tree
from flip.files import write_json

ROOT = Path(__file__).parent.parent
FILES = ["Snakefile", "params.yaml", "configs", "chosen", "dvc.yaml", "rules", "flip", "profiles"]
FILES += [".dvc", ".dvcignore", ".gitignore", "runs"]
PARTS = 20
# Replaces the command of every job.
STAND_IN = """

def run(command, parameters):
    import json
    import sys

    for path in (Path(p) for p in sys.argv if p.startswith(("data/", "results/", "tables/"))):
        if path.suffix in (".json", ".csv", ".yaml", ".html", ".npz", ".parquet", ".safetensors", ".tar"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text(json.dumps({"path": str(path), "seconds": 1}))
            if path.parent.name == "shards":
                for number in range(SHARDS):
                    shard = path.with_suffix("") / f"{number:05d}.tar"
                    shard.parent.mkdir(exist_ok=True)
                    shard.write_text(str(shard) * 50)
    return 0


if __name__ == "__main__":
    main()
"""
# Replaces the preflight, as there are no data to check here.
NO_PREFLIGHT = "import sys\nfrom pathlib import Path\n\nPath(sys.argv[-1]).write_text('{}')\n"


def environment() -> dict[str, str]:
    """Return the environment of commands."""
    who = {f"GIT_{role}_{what}": "bench@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | who | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def call(folder: Path, *words: str) -> float:
    """Run a command and return its seconds; exit with its output if it fails."""
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def project(folder: Path, variants: int, shards: int) -> None:
    """Write a workflow of a number of variants and shards, with stages that do nothing."""
    for name in FILES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    path = folder / "params.yaml"
    tree = read_tree(path)
    names = [f"flip-{number}" for number in range(variants)]
    tree["variants"] = {name: {"masking": {"image": 0.5 * n / variants}} for n, name in enumerate(names)}
    tree["reports"] = {"ablations": tree["reports"]["ablations"]}
    tree["tables"] = {"a": {"title": "All", "report": "ablations", "variants": names, "metrics": ["fine"]}}
    tree["tradeoff"] = {"report": "ablations", "metric": "fine", "curves": {"all": names}}
    tree["base"]["download"]["parts"] = PARTS
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / "flip/plan/preflight.py").write_text(NO_PREFLIGHT)
    module = folder / "flip/provenance/receipt.py"
    stand_in = STAND_IN.replace("SHARDS", str(shards // PARTS))
    module.write_text(module.read_text().split('\n\nif __name__ == "__main__":')[0] + stand_in)


def measure(base: Path, variants: int, shards: int) -> dict[str, float]:
    """Return the seconds of each call, by its description."""
    folder, clone = base / "work", base / "clone"
    folder.mkdir()
    project(folder, variants, shards)
    found = {"snakemake -n, nothing made yet": call(folder, "snakemake", "-n", "--quiet", "all")}
    found["snakemake ablations, every stage empty"] = call(folder, "snakemake", "ablations", "--quiet", "all")
    found["snakemake -n, nothing to be done"] = call(folder, "snakemake", "-n", "--quiet", "all")
    call(folder, "git", "init", "--quiet")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "Made")
    found["dvc repro, records all"] = call(folder, "dvc", "repro", "--quiet")
    found["dvc repro, nothing to be done"] = call(folder, "dvc", "repro", "--quiet")
    call(folder, "dvc", "remote", "add", "--default", "store", str(base / "remote"))
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "Recorded")
    found["dvc push, all"] = call(folder, "dvc", "push", "--quiet")
    call(base, "git", "clone", "--quiet", str(folder), str(clone))
    found["dvc pull of the tables alone, in a clone"] = call(clone, "dvc", "pull", "--quiet", "tables")
    found["dvc pull of the rest"] = call(clone, "dvc", "pull", "--quiet")
    found["flip reconcile"] = call(clone, sys.executable, "-m", "flip", "reconcile")
    found["snakemake -n in the clone, nothing to be done"] = call(clone, "snakemake", "-n", "--quiet", "all")
    found["dvc data status in the clone"] = call(clone, "dvc", "data", "status")
    found["snakemake, which writes the rows of the variants"] = call(clone, "snakemake", "--quiet", "all")
    found["dvc exp show"] = call(clone, "dvc", "exp", "show")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table of seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versioning", description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=40, help="default: 40")
    parser.add_argument("--shards", type=int, default=2000, help="default: 2000")
    parser.add_argument("--out", help="also write the seconds as JSON")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as base:
        found = measure(Path(base), options.variants, options.shards)
    print(f"| {options.variants} variants, {options.shards} shards | seconds |\n| --- | --- |")
    print("\n".join(f"| {what} | {seconds:.1f} |" for what, seconds in found.items()))
    if options.out:
        write_json(options.out, {"variants": options.variants, "shards": options.shards, "seconds": found})


if __name__ == "__main__":
    main()
