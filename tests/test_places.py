"""A project's folder that was renamed, copied, or packed and unpacked as a ZIP, or in which two people work, is the
project as it was: nothing runs again, and what changes is made and recorded."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.miniature import WHO, call, dvc, edit, environment, ran, snakemake
from tests.versioned import is_up_to_date

pytestmark = pytest.mark.long(2)

OTHER = 65534  # a user and a group that own nothing here
# Who may read everything here, as Python may lie in somebody's home, and is otherwise like any other user.
AS_OTHER = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
AS_OTHER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def test_a_folder_that_was_renamed_and_one_that_was_copied_are_up_to_date(work, tmp_path):
    work.rename(tmp_path / "renamed")
    is_up_to_date(tmp_path / "renamed")
    call(tmp_path, "cp", "-r", "renamed", "a copy")  # with times of now
    is_up_to_date(tmp_path / "a copy")


def test_a_zip_of_a_commit_becomes_a_project_by_what_is_said(work, tmp_path):
    folder = tmp_path / "unpacked"
    call(work, "git", "archive", "--format=zip", f"--output={tmp_path}/flip.zip", "HEAD")
    shutil.unpack_archive(tmp_path / "flip.zip", folder)
    said = snakemake(folder, "-n", "ablations")
    assert "Nothing to be done" in said
    command = said.partition("DVC needs Git: `")[2].partition("`")[0]
    call(folder, "bash", "-c", command)
    dvc(folder, "pull")
    is_up_to_date(folder)


@pytest.fixture
def shared(recorded):
    """The folder of a group, where all can come to: set-group-ID folders, files that the group may write."""
    if os.geteuid():
        pytest.skip("needs root, who can be two users")
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o777)
        yield open_to_a_group(Path(shutil.copytree(recorded[0], f"{base}/work", symlinks=True)))


def open_to_a_group(work):
    call(work, "bash", "-c", f"chgrp -R {OTHER} . && chmod -R g+w . && find . -type d -exec chmod g+s {{}} +")
    call(work, "git", "config", "core.sharedRepository", "group")
    return work


def test_two_users_of_one_folder_make_and_record_what_changed(shared):
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    env = environment(shared) | WHO | trust | {"HOME": str(shared.parent)}

    def run(*words):
        done = subprocess.run(
            words, cwd=shared, env=env, capture_output=True, text=True, check=False, preexec_fn=lambda: os.umask(0o002)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    edit(shared, "params.yaml", "resamples: 200", "resamples: 210")
    said = run(*AS_OTHER, "snakemake", "ablations")
    assert {*ran(said)} == {"tables", "ablations"}
    assert "Recorded with DVC: tables/tiny/ablations." in said
    assert (shared / "receipts/tiny/tables/ablations/tables.json").stat().st_uid == OTHER
    edit(shared, "params.yaml", "resamples: 210", "resamples: 220")
    said = run("snakemake", "ablations")
    assert {*ran(said)} == {"tables", "ablations"}
    assert "Recorded with DVC: tables/tiny/ablations." in said
    assert "Nothing to be done" in run(*AS_OTHER, "snakemake", "-n", "ablations")
