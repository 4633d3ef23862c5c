"""On a disk that is full, each job of the workflow ends in one line, which names a path on it and what to do; what it
leaves there is named by its receipt, and is no temporary file."""

import multiprocessing
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from flip.files import MARK
from flip.provenance.receipt import outputs, read
from flip.space import report

pytestmark = pytest.mark.long(1)

DISK = 48 << 20  # bytes
DATA = "data/tiny"
# By job: the bytes that are free, and what is to be made again besides its results. Nothing is free at first; images,
# weights and drawings meet the end in their middle.
JOBS = {
    "data/table": (0, []),
    "data/download/0000": (50_000, [f"{DATA}/download"]),
    "data/fingerprints/0000": (0, []),
    "data/buckets/0": (10_000, []),
    "data/duplicates/0": (0, []),
    "data/dropped/0": (0, []),
    "data/shards/0000": (50_000, [f"{DATA}/shards"]),
    "data/manifest": (0, []),
    "data/tokenizer": (0, []),
    "data/tests/coarse": (20_000, [f"{DATA}/tests/coarse"]),
    "data/test_fingerprints": (0, []),
    "variants/clip/seed-0/pretrain": (60_000, []),
    "variants/clip/seed-0/evaluate": (60_000, []),
    "tables/ablations/cost": (0, []),
    "tables/ablations/tables": (60_000, []),
}


@pytest.fixture
def disk(made, tmp_path):
    """A copy of the workflow on a small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder], check=False).returncode:
        pytest.skip("needs a root that may mount a file system")
    try:
        yield shutil.copytree(made, folder / "work", symlinks=True, ignore=shutil.ignore_patterns(".snakemake"))
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder, free: int) -> None:
    """Leaves so many bytes free."""
    filler = folder.parent / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - free)


def body(folder, log, command) -> None:
    """A job, in a process of its own."""
    with open(log, "w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        sys.argv = command
        warnings.simplefilter("default")  # errors in a test, lines in a job
        os.chdir(folder)
        try:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        except Exception:
            report(*sys.exc_info())
            raise SystemExit(1) from None


def files(folder) -> set:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def end(*arguments) -> int:
    """The exit code of a job, forked from this process, which has imported torch."""
    child = multiprocessing.get_context("fork").Process(target=body, args=arguments)
    child.start()
    child.join(120)
    return child.exitcode


def names_the_path(disk, said) -> None:
    place, _, what = said.strip().splitlines()[-1].partition(": ")
    assert what.startswith("no space left on its disk, or in its quota; free some and start the workflow again"), said
    assert (disk / place).is_relative_to(disk)
    assert "Traceback" not in said


def test_what_surrounds_a_job_says_so_too(disk, tmp_path):
    """Its lease is the first file that is written."""
    receipt = read(disk / "receipts/tiny/data/table.json")
    words = ["--out", "receipts/tiny/data/table.json", "--spec", receipt["made_from"]["spec"]["path"]]
    command = ["flip.provenance.receipt", *words, "--outputs", *receipt["made"], "--", sys.executable, "-c", "pass"]
    fill(disk, 0)
    assert end(disk, tmp_path / "log", command) == 1
    names_the_path(disk, (tmp_path / "log").read_text())


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_in_a_line_that_names_the_path(disk, tmp_path, job):
    free, again = JOBS[job]
    receipt = read(disk / f"receipts/tiny/{job}.json")
    for place in again:
        shutil.rmtree(disk / place)
    for path in outputs(receipt):
        (disk / path).unlink(missing_ok=True)
    before = files(disk)
    fill(disk, free)
    command = shlex.split(receipt["command"])
    module = len(command) - command[::-1].index("-m")  # behind flip.train.launch, which starts it
    assert end(disk, tmp_path / "log", command[module:]) == 1
    names_the_path(disk, (tmp_path / "log").read_text())
    left = {path for path in files(disk) - before if Path(path).name.startswith(".") and not path.startswith(".flip/")}
    assert {Path(path).name for path in left} <= {MARK}
