"""A reader never meets half a file, and a job's bulk folder is continued only by the same job."""

import errno
import os
import subprocess
import sys

import pytest

from flip.files import (
    PLANNED,
    atomic,
    expand,
    file_hash,
    place_files,
    place_hash,
    read_json,
    workspace,
    write_atomic,
    write_json,
)
from flip.space import full


def write_and_fail(path):
    with atomic(path) as file:
        file.write(b"half of")
        raise KeyboardInterrupt


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_atomic(tmp_path / "a" / "x", "old")
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(tmp_path / "a" / "x")
    assert (tmp_path / "a" / "x").read_text() == "old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_a_kill_leaves_no_file_of_another_name(tmp_path):
    code = "import os, sys; from flip.files import atomic\nwith atomic(sys.argv[1]) as f: f.write(b'x'); os.abort()"
    subprocess.run([sys.executable, "-c", code, tmp_path / "x"], check=False)
    assert [*tmp_path.iterdir()] == []


def test_what_a_file_system_without_unnamed_files_holds_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("flip.files._unnamed", lambda folder: None)
    test_a_failed_write_leaves_what_was_there(tmp_path)
    test_files_are_as_readable_as_others(tmp_path)


def test_a_full_disk_is_said_in_one_line_that_names_the_file(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=f"^{tmp_path}/x: no space left on its disk, .*: what is finished stays") as found:
        write_atomic(tmp_path / "x", "a")
    assert full(found.value) == str(found.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("job", [True, False])
def test_a_job_ends_with_that_line_whatever_library_was_writing(tmp_path, job):
    code = "import flip.files\n"
    code += "try: open('/dev/full', 'w', 1).write('x\\n')\nexcept OSError as error: raise RuntimeError('x') from error"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | ({PLANNED: "{}"} if job else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr, done.stderr.count("\n") == 1) == (not job, job)


def test_files_are_as_readable_as_others(tmp_path):
    write_atomic(tmp_path / "x", "a")
    (tmp_path / "plain").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_reads_back(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, None, "é"]})
    assert read_json(tmp_path / "x.json") == {"a": [1, None, "é"]}


def test_the_hash_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_workspace_is_kept_for_the_same_inputs_only(tmp_path):
    folder = workspace(tmp_path / "w", "one")
    (folder / "part").touch()
    assert (workspace(folder, "one") / "part").exists()
    assert not (workspace(folder, "two") / "part").exists()


def test_a_place_may_have_ranges_in_braces_and_tars_count_by_their_state(tmp_path):
    for name in ("a-00.tar", "a-01.tar", "a-02.tar", "a-03.tar", "b{.tar"):
        (tmp_path / name).write_bytes(b"content")
    place = f"{tmp_path}/a-{{00..02}}.tar"
    assert [path.name for path in place_files(place).values()] == ["a-00.tar", "a-01.tar", "a-02.tar"]
    assert [path.name for path in place_files(f"{tmp_path}/b{{.tar").values()] == ["b{.tar"]
    before = place_hash(place)
    os.utime(tmp_path / "a-03.tar", ns=(1, 1))
    assert place_hash(place) == before
    os.utime(tmp_path / "a-02.tar", ns=(1, 1))
    assert place_hash(place) != before


def test_a_range_in_braces_stands_for_many_paths():
    assert expand(["a.json", "b/{08..11}.json"]) == ["a.json", "b/08.json", "b/09.json", "b/10.json", "b/11.json"]
    assert expand(["{0..0}"]) == ["0"]
