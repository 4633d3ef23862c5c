"""File times follow contents: what holds has one time, what does not an older one; what DVC can bring back is not
missing, and what only served a result that stands may go."""

import sys

import pytest

from flip.files import write_atomic, write_json
from flip.provenance.collect import COLLECTING
from flip.provenance.freshness import FRESH_TIME, STALE_TIME, align, leftovers
from flip.provenance.receipt import main
from flip.provenance.sources import source_hash
from flip.provenance.tracked import Conflict

CODE = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
CHAIN = {"images": ["--intermediate"], "shards": ["--upstream", "receipts/images.json"], "weights": []}
CHAIN["weights"] = ["--upstream", "receipts/shards.json"]


def plan(name, **parameters):
    code = source_hash("flip.files")
    write_json(f"specs/{name}.json", {"stage": name, "module": "flip.files", "code": code, "parameters": parameters})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """images (intermediate) -> shards -> weights, all made."""
    monkeypatch.chdir(tmp_path)
    for name, more in CHAIN.items():
        plan(name)
        words = ["--out", f"receipts/{name}.json", "--spec", f"specs/{name}.json", "--outputs", f"{name}.bin", *more]
        main([*words, "--", sys.executable, "-c", CODE, f"{name}.bin", f"content of {name}"])
    return tmp_path


def stale(folder, recorded=()):
    align("receipts", "specs", recorded)
    times = {name: (folder / f"receipts/{name}.json").stat().st_mtime for name in CHAIN}
    assert set(times.values()) <= {FRESH_TIME, STALE_TIME}
    return [name for name, time in times.items() if time == STALE_TIME]


def test_all_holds_after_a_run_whatever_the_times_are(folder):
    assert stale(folder) == []
    for path in folder.rglob("*.json"):
        path.touch()
    assert stale(folder) == []
    assert {path.stat().st_mtime for path in folder.glob("specs/*")} == {FRESH_TIME}


def test_a_changed_spec_makes_its_own_receipt_false(folder):
    plan("shards", width=2)
    assert stale(folder) == ["shards"]
    plan("shards")
    assert stale(folder) == []


def test_scratch_may_go_while_what_it_served_stands(folder):
    (folder / "images.bin").unlink()
    assert stale(folder) == []
    plan("shards", width=2)
    assert stale(folder) == ["images", "shards"]


def test_what_is_kept_may_be_missing_only_where_dvc_has_it(folder):
    (folder / "shards.bin").unlink()
    assert stale(folder) == ["shards"]
    assert stale(folder, ["shards.bin"]) == []


def test_a_file_that_is_not_what_its_receipt_says(folder):
    write_atomic("weights.bin", "spoiled")
    assert stale(folder) == ["weights"]
    with pytest.raises(Conflict, match=r"weights\.bin; `dvc checkout weights\.bin` brings back"):
        align("receipts", "specs", ["weights.bin"])


def test_a_missing_receipt_makes_what_follows_false(folder):
    (folder / "receipts/shards.json").unlink()
    align("receipts", "specs")
    assert (folder / "receipts/weights.json").stat().st_mtime == STALE_TIME


def test_results_of_unknown_variants_are_named(folder):
    for name in ("clip", "old"):
        (folder / "results" / name).mkdir(parents=True)
    assert leftovers("results", ["clip"]) == ["results/old"]


def test_one_file_for_many_changes_when_one_of_them_does_and_keeps_none_of_them_from_being_made(folder):
    """Three parts -> one file for all -> what is made of all; the parts are intermediate."""
    names = [f"part-{number}" for number in range(3)]

    def make(name, content, *more):
        words = ["--out", f"receipts/{name}.json", "--spec", f"specs/{name}.json", "--outputs", f"{name}.bin", *more]
        main([*words, "--", sys.executable, "-c", CODE, f"{name}.bin", content])

    def gather():
        words = ["--out", "receipts/all.json", "--spec", "specs/all.json", "--outputs", "all.bin", "--intermediate"]
        command = [sys.executable, "-m", COLLECTING, "--receipts", "receipts/part-{0..2}.json", "--out", "all.bin"]
        main([*words, "--upstream", "receipts/part-{0..2}.json", "--", *command])

    for name in (*names, "whole"):
        plan(name)
    code = source_hash(COLLECTING)
    write_json("specs/all.json", {"stage": "all", "module": COLLECTING, "code": code, "parameters": {}})
    for name in names:
        make(name, name, "--intermediate")
    gather()
    make("whole", "whole", "--upstream", "receipts/all.json")

    def found():
        return sorted(align("receipts", "specs").stale)

    assert found() == []
    (folder / "part-1.bin").unlink()
    assert found() == []  # it only served what stands
    plan("whole", width=2)
    assert found() == ["receipts/part-1.json", "receipts/whole.json"]
    plan("whole")
    make("part-1", "part-1", "--intermediate")
    gather()
    assert found() == []  # it came out equal
    plan("part-1", width=2)
    make("part-1", "another", "--intermediate")
    assert found() == ["receipts/all.json"]
    gather()
    assert found() == ["receipts/whole.json"]
