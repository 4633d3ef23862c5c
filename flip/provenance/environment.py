"""Describe the environment that makes a result: commit, versions, machine."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "numpy",
    "img2dataset",
    "webdataset",
    "clip-benchmark",
    "open_clip_torch",
    "tokenizers",
    "snakemake",
    "dvc",
)
PROJECT = Path(__file__).parent.parent.parent
# Tracked files that hold results.
RESULTS = ("receipts", "runs", "dvc.lock", "*.dvc", "benchmarks/results.json")
# What results are made by: an untracked file there is a change, too.
SOURCES = ("flip", "rules", "Snakefile")
CODE = {".py", ".smk", ".yaml", ".html", ".css", ".js"}


def _git(*words: str) -> str:
    """Run Git in the project's folder and return what it prints.

    Raises:
        ValueError: it fails, with its reason, or it is not installed.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_DIR")}
    try:
        done = subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, text=True, check=False, env=own)
    except FileNotFoundError:
        raise ValueError("git is not installed") from None
    if done.returncode:
        raise ValueError(" ".join(done.stderr.split()).removeprefix("fatal: ") or f"git {words[0]} failed")
    return done.stdout.strip()


def git_state() -> dict[str, Any]:
    """Return the commit, and whether the code differs from it: tracked files but results, or untracked sources.

    Where Git gives no answer both are None, and `why` says why.
    """
    results = [f":(exclude){path}" for path in RESULTS]
    try:
        if not _git("ls-files", "--", "."):
            return {"commit": None, "changed": None, "why": "no file of this folder is in the repository"}
        if not (commit := _git("rev-list", "--all", "--max-count=1") and _git("rev-parse", "HEAD")):
            return {"commit": None, "changed": None, "why": "the repository has no commit yet"}
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
        new = _git("ls-files", "--others", "--", *SOURCES).splitlines()
        hidden = [line for line in _git("ls-files", "-v", "--", *SOURCES).splitlines() if line[0].islower()]
    except ValueError as error:
        return {"commit": None, "changed": None, "why": str(error)}
    added = [path for path in new if Path(path).suffix in CODE]
    return {"commit": commit, "changed": bool(changed or added or hidden)}


def unmerged() -> list[str]:
    """Return the files of this folder that a merge has left with conflicts; none where Git gives no answer."""
    try:
        return _git("diff", "--name-only", "--relative", "--diff-filter=U").splitlines()
    except ValueError:
        return []


def unproven(receipt: dict[str, Any]) -> str | None:
    """Return why the code that made a result cannot be looked up; None if its receipt names a commit that has it."""
    git = receipt["git"]
    if git["commit"] is None:
        return f"made where Git could not be asked ({git.get('why', 'outside a repository')})"
    return f"made with changes that commit {git['commit'][:10]} does not have" if git["changed"] else None


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that results depend on."""
    installed = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def processor() -> str:
    """Return the name of the processor."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, str]:
    """Return host, operating system and processor."""
    return {"host": platform.node(), "system": platform.platform(), "processor": processor()}
