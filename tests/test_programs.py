"""Tests install nothing: one that needs a missing program says what to install, and .ci/install is what installs."""

import shutil
import subprocess
import sys

import pytest

from tests.browser import browser
from tests.miniature import ROOT
from tests.programs import CHROMIUM, PACKAGES, SLURM, Unavailable, lacking
from tests.slurm_cluster import cluster


@pytest.mark.parametrize(
    ("begin", "packages"), [(browser, "chromium"), (cluster, "munge slurm-client slurmctld slurmd")]
)
def test_a_missing_program_is_named_with_how_to_install_it(tmp_path, monkeypatch, begin, packages):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=rf"\.ci/install or apt-get install {packages}$"), begin():
        pass


def test_any_chromium_will_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lacking("chromium", *SLURM) == ["chromium", "munge", "slurm-client", "slurmctld", "slurmd"]
    for name in CHROMIUM:
        (tmp_path / name).touch(0o755)
        assert lacking("chromium") == []
        (tmp_path / name).unlink()


def ci(folder, **programs):
    """What .ci/run prints in a copy where these programs stand in for the system's."""
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests/programs.py", folder / "tests")
    (folder / "bin").mkdir()
    for name, text in programs.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    for name in ("bash", "sh", "dirname"):
        (folder / "bin" / name).symlink_to(shutil.which(name))
    (folder / "bin/python3").symlink_to(sys.executable)
    environment = {"PATH": str(folder / "bin")}
    return subprocess.run([folder / ".ci/run"], env=environment, capture_output=True, text=True, check=False)


def test_ci_runs_the_tests_when_nothing_is_missing(tmp_path):
    done = ci(tmp_path, make='echo "make $@"', **dict.fromkeys(PACKAGES, ""))
    assert (done.returncode, done.stdout, done.stderr) == (0, "make test\n", "")


def test_ci_runs_the_tests_where_nothing_can_be_installed(tmp_path):
    done = ci(tmp_path, make='echo "make $@"; exit 3')
    assert (done.returncode, done.stdout) == (3, "make test\n")
    assert "no root with apt-get to install them" in done.stderr
    assert "tests that need a missing program are skipped" in done.stderr
