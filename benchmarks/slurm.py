"""Measure the processor time that Snakemake and Slurm use for each job, besides the work itself.

    python -m benchmarks.slurm

sets up a cluster on this machine, runs the stages of the data in miniature on it, and adds up the processor time of
every Python process around the commands of the stages: the main Snakemake (with its calls of sbatch and squeue), the
two that run in each job (with srun), and the receipt's.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.miniature import ROOT, copy_workflow, environment, write_params
from tests.slurm_cluster import cluster
from tests.test_slurm import slower

# Python imports it before anything else, in place of slurm/startup, which it starts with; each process writes a file
# when it ends.
HOOK = """
import atexit, json, os, resource, sys

def note():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (one.ru_utime + one.ru_stime for one in used)
    with open(f"{os.environ['FLIP_NOTES']}/{os.getpid()}.json", "w") as file:
        json.dump({"words": sys.orig_argv, "own": own, "children": children}, file)

atexit.register(note)
"""
# An argument that identifies a process, and whether its child processes count.
KINDS = {
    "main Snakemake, sbatch, squeue": ("--profile", True),
    "Snakemake of the job, srun": ("slurm-jobstep", True),
    "Snakemake of the step": ("--target-jobs", False),
    "receipt": ("flip.provenance.receipt", False),
}


def kind(words: list[str]) -> str | None:
    """Return the kind of a process by its command line."""
    return next((name for name, (mark, _) in KINDS.items() if mark in words), None)


def measure(folder: Path) -> dict[str, float]:
    """Return seconds of processor time by kind of process, for all jobs together, and the number of jobs."""
    copy_workflow(folder)
    write_params(folder, slower)
    notes = folder / "notes"
    notes.mkdir()
    startup = (ROOT / "slurm/startup/sitecustomize.py").read_text()
    (notes / "sitecustomize.py").write_text(startup + HOOK)
    variables = {"FLIP_NOTES": str(notes), "PYTHONPATH": f"{notes}:{ROOT}"}
    words = ["snakemake", "--profile", "slurm", "data", "--jobs", "4"]
    variables = environment(folder) | variables
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = dict.fromkeys(KINDS, 0.0)
    for path in notes.glob("*.json"):
        one = json.loads(path.read_text())
        if name := kind(one["words"]):
            found[name] += one["own"] + (one["children"] if KINDS[name][1] else 0)
    return found | {"jobs": done.stderr.count("has been submitted with SLURM jobid")}


def main() -> None:
    """Measure and print seconds per job."""
    with cluster(), tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    jobs = found.pop("jobs")
    for name, seconds in found.items():
        print(f"{seconds / jobs:6.2f} s  {name}")
    print(f"{sum(found.values()) / jobs:6.2f} s of processor time for each of {jobs} jobs")


if __name__ == "__main__":
    main()
