"""A reader never meets half a file, and a job's bulk folder is continued only by the same job."""

import os

import pytest

from flip.files import (
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
