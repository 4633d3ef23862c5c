"""The miniature in Git and DVC, for the tests of both."""

import json
import shutil

from tests.miniature import call, dvc, snakemake


def commit(folder, message="A state to come back to"):
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", message)


def reconcile(folder, check=True):
    return call(folder, "python", "-m", "flip", "reconcile", check=check)


def is_up_to_date(folder):
    assert json.loads(dvc(folder, "status", "--json")) == {"tables": ["always changed"]}
    assert "Nothing to be done" in snakemake(folder, "-n", "ablations")


def record(made, base):
    """The run of `made` in Git below `base`, recorded with DVC and pushed to a folder; gives what recording it said."""
    folder, remote = base / "work", base / "remote"
    shutil.copytree(made, folder, symlinks=True)
    call(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder)
    said = call(folder, "python", "-m", "flip.report.record")
    dvc(folder, "remote", "add", "--default", "store", str(remote))
    commit(folder, "Recorded")
    dvc(folder, "push")
    return said
