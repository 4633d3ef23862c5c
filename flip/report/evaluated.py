"""Read what has been evaluated, from the receipts of this folder or of another state of the project."""

import io
import statistics
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from flip.provenance.layout import Layout
from flip.provenance.receipt import parse, read

HERE = "."
REFS = "refs/exps"  # of DVC's experiments


class Evaluated(NamedTuple):
    """Hold a training run that was evaluated: the receipts of both, and its metrics, those of trained heads too."""

    seed: str
    training: dict[str, Any]
    receipt: dict[str, Any]
    metrics: dict[str, float]


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip() or f"git {' '.join(words)} failed")
    return done.stdout


def experiments() -> dict[str, tuple[str, str]]:
    """Return author and commit of DVC's experiments, by reference."""
    lines = git("for-each-ref", "--format=%(refname) %(objectname) %(authorname)", REFS).splitlines()
    split = [line.split(" ", 2) for line in lines]
    return {name: (author, commit) for name, commit, author in split}


def resolve(state: str) -> str:
    """Return the commit of a Git revision or of an experiment of DVC.

    Raises:
        ValueError: neither has that name.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", f"{state}^{{commit}}").strip()
    except ValueError:
        names = {ref.rsplit("/", 1)[1]: commit for ref, (_, commit) in experiments().items()}
        if state in names:
            return names[state]
    known = f"; experiments: {', '.join(sorted(names))}" if names else ""
    raise ValueError(f"'{state}': no Git revision and no experiment of DVC{known}; `dvc exp list` shows them")


def texts(commit: str, paths: list[str]) -> list[str]:
    """Return the contents of files at a commit."""
    asked = "".join(f"{commit}:{path}\n" for path in paths).encode()
    done = subprocess.run(["git", "cat-file", "--batch"], input=asked, capture_output=True, check=True)
    found, file = [], io.BytesIO(done.stdout)
    while head := file.readline():
        found.append(file.read(int(head.split()[-1])).decode(errors="replace"))
        file.readline()
    return found


def receipts(state: str, scale: str) -> dict[str, dict]:
    """Return the receipts of variants and of reports at a state, by path below receipts/<scale>/.

    Raises:
        ValueError: one was edited since it was written.
    """
    root = Path(Layout(scale).receipts.root)
    folders = [f"{root}/{name}" for name in ("tables", "variants")]
    if state == HERE:
        paths = sorted(path for folder in folders for path in Path(folder).rglob("*.json"))
        return {str(path.relative_to(root)): read(path) for path in paths}
    commit = resolve(state)
    names = git("ls-tree", "-r", "--name-only", commit, "--", *(f"{folder}/" for folder in folders)).splitlines()
    old = not git("ls-tree", "--name-only", commit, "flip/provenance/sources.py")  # came with seals
    found = zip(names, texts(commit, names), strict=True)
    return {str(Path(path).relative_to(root)): parse(path, text, old) for path, text in found}


def costs(found: dict[str, dict]) -> dict[str, dict]:
    """Return what was measured of the steps of variants, from the receipts of one state; where two reports have a
    variant, by the first one."""
    measured: dict[str, dict] = {}
    for path, receipt in reversed(found.items()):
        match path.split("/"):
            case ["tables", _, "cost.json"]:
                measured |= receipt["facts"]["cost"]["variants"]
    return measured


def evaluated(found: dict[str, dict]) -> dict[str, list[Evaluated]]:
    """Return the evaluated runs of each variant, one per seed, from the receipts of one state."""
    heads: dict[tuple[str, str], dict[str, float]] = {}
    runs: dict[str, list[Evaluated]] = {}
    for path, receipt in reversed(found.items()):
        match path.split("/"):
            case ["tables", _, variant, _, seed, "transfer.json"]:
                heads.setdefault((variant, seed), {}).update(receipt["facts"]["metrics"]["metrics"])
    for path, receipt in found.items():
        match path.split("/"):
            case ["variants", variant, seed, "evaluate.json"]:
                if training := found.get(f"variants/{variant}/{seed}/pretrain.json"):
                    metrics = receipt["facts"]["metrics"]["metrics"] | heads.get((variant, seed), {})
                    runs.setdefault(variant, []).append(Evaluated(seed, training, receipt, metrics))
    return runs


def means(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the means over runs of the metrics that all of them have."""
    return {name: statistics.fmean(one[name] for one in runs) for name in runs[0] if all(name in one for one in runs)}
