"""A receipt says what a result was made from and what it is; a result that stands is not made again, and of two
processes that are to make the same one waits."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from flip.config.frozen import dump
from flip.files import file_hash, known_hash, place_hash, read_json, write_atomic, write_json
from flip.provenance import environment as provenance
from flip.provenance.freshness import align
from flip.provenance.receipt import SEAL, main, read, read_by, refusal, save
from flip.provenance.sources import source_hash
from flip.provenance.tracked import NOTES, Conflict, clear_damaged_notes, tracked
from tests.miniature import ROOT

COUNTING = "import sys; p = open('count', 'a'); p.write('x'); p.close(); open(sys.argv[1], 'w').write(sys.argv[2])"

# Saves its work when SIGTERM arrives.
SAVING = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'w'), sys.exit(143)))\n"
    "open('began', 'w')\ntime.sleep(60)"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan()
    return tmp_path


def plan(code=None, **parameters):
    code = code or source_hash("flip.files")
    write_json("specs/one.json", {"stage": "one", "module": "flip.files", "code": code, "parameters": parameters})


def make(name="one", text="made", after=(), *more, code=COUNTING):
    words = ["--out", f"receipts/{name}.json", "--spec", "specs/one.json", "--outputs", f"{name}.txt"]
    words += ["--upstream", *after] if after else []
    main([*words, *more, "--", sys.executable, "-c", code, f"{name}.txt", text])
    return read_json(f"receipts/{name}.json")


def times_made(folder):
    return len((folder / "count").read_text())


def test_a_receipt_names_inputs_and_products(folder):
    first = make()
    second = make("two", "other", ["receipts/one.json"])
    assert first["made"] == {"one.txt": {"sha256": file_hash("one.txt"), "bytes": 4}}
    assert second["made_from"]["after"] == {"receipts/one.json": first["id"]}
    assert first["id"] != second["id"]
    assert {"git", "versions", "machine", "start", "end", "command", "spec"} <= first.keys()


def test_files_of_a_folder_identify_the_result_whichever_there_are(folder):
    code = COUNTING + "; import os; os.makedirs('shown', exist_ok=True); open('shown/' + sys.argv[2], 'w').write('x')"
    first = make("one", "a", (), "--output-dirs", "shown", code=code)
    assert list(first["made"]) == ["one.txt", "shown/a"]
    assert make("one", "a", (), "--output-dirs", "shown", code=code) == first
    (folder / "shown" / "a").unlink()
    assert make("one", "a", (), "--output-dirs", "shown", code=code)["made"] == first["made"]
    assert times_made(folder) == 2
    assert make("two", "b", (), "--output-dirs", "shown")["made"].keys() == {"two.txt", "shown/a"}
    assert make("three", "b", (), "--output-dirs", "nowhere")["made"].keys() == {"three.txt"}


def test_what_stands_is_not_made_again(folder):
    first = make()
    assert make() == first
    assert times_made(folder) == 1


@pytest.mark.parametrize("change", ["spec", "product", "before", "source"])
def test_a_change_makes_it_again(folder, change):
    write_atomic("source.tsv", "a")
    make("zero", "zero")
    more = ("--sources", "source.tsv")
    make("one", "made", ["receipts/zero.json"], *more)
    if change == "spec":
        plan(width=2)
    elif change == "product":
        (folder / "one.txt").write_text("spoiled")
    elif change == "before":
        make("zero", "another")  # the same spec: nothing happens
        save("receipts/zero.json", read_json("receipts/zero.json") | {"id": "0"})
    else:
        write_atomic("source.tsv", "b")
    before = times_made(folder)
    make("one", "made", ["receipts/zero.json"], *more)
    assert times_made(folder) == before + 1


def test_the_same_result_of_other_code_is_the_same_for_who_builds_on_it(folder):
    first = make()
    plan(width=2)
    assert make()["id"] == first["id"]
    assert make()["made_from"] != first["made_from"]


def test_a_missing_or_changed_input_is_named_before_the_command_runs(folder, capsys):
    make()
    for spoil, message in (
        (lambda: (folder / "one.txt").write_text("spoiled"), "one.txt: not what receipts/one.json says it is"),
        (lambda: (folder / "one.txt").unlink(), "one.txt: not found, though receipts/one.json says"),
    ):
        spoil()
        with pytest.raises(SystemExit, match="1"):
            make("two", "other", ["receipts/one.json"])
        assert message in capsys.readouterr().err
    assert times_made(folder) == 1


def test_code_that_changed_since_the_job_was_planned_is_refused(folder, capsys):
    plan(code="another")
    with pytest.raises(SystemExit, match="1"):
        make()
    said = capsys.readouterr().err
    assert "the sources of flip.files have changed since this job was planned" in said
    assert not (folder / "count").exists()
    # Whoever would try again reads that it is in vain, until the job is another.
    assert refusal("receipts/one.json").read_text() == said
    plan()
    make()
    assert not refusal("receipts/one.json").exists()


def test_a_command_that_fails_or_makes_nothing_leaves_no_receipt(folder, capsys):
    for code, status in (("raise SystemExit(7)", "7"), ("pass", "1")):
        with pytest.raises(SystemExit, match=status):
            make(code=code)
    assert "one.txt: missing, though the command" in capsys.readouterr().err
    assert not (folder / "receipts/one.json").exists()


def start(code):
    words = ["--out", "receipts/one.json", "--spec", "specs/one.json", "--outputs", "one.txt", "--"]
    return subprocess.Popen(
        [sys.executable, "-m", "flip.provenance.receipt", *words, sys.executable, "-c", code, "one.txt", "x"]
    )


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_make_it_once(folder):
    slow = "import time; open('began', 'w'); time.sleep(1); " + COUNTING
    with start(slow) as first:
        wait_for(folder / "began")
        with start(COUNTING) as second:
            assert second.wait() == 0
        assert first.wait() == 0
    assert times_made(folder) == 1


def test_a_signal_reaches_the_command_and_its_code_comes_back(folder):
    with start(SAVING) as process:
        wait_for(folder / "began")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert (folder / "saved").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_the_command_ends_with_a_wrapper_that_is_killed(folder):
    with start(SAVING) as process:
        wait_for(folder / "began")
        process.kill()
    wait_for(folder / "saved")


@pytest.mark.parametrize("place", ["table.tsv", "tables/*.tsv", "tables"])
def test_a_place_outside_is_known_by_all_of_its_content(folder, place):
    """An edit in the middle that leaves size and modification time alone, another file, another name: all count."""
    large = bytearray(b"a" * (1 << 21))
    path = folder / ("table.tsv" if place == "table.tsv" else "tables/one.tsv")
    write_atomic(path, bytes(large))
    first, times = place_hash(place), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    assert place_hash(place) == first
    large[1 << 20] = ord("b")
    with open(path, "r+b") as file:
        file.write(large)
    os.utime(path, ns=times)
    second = place_hash(place)
    assert second != first
    if place != "table.tsv":
        write_atomic(folder / "tables/two.tsv", b"c")
        third = place_hash(place)
        assert third not in (first, second)
        (folder / "tables/two.tsv").rename(folder / "tables/three.tsv")
        assert place_hash(place) not in (first, second, third)
    for one in folder.glob("*/*.tsv"):
        one.unlink()
    path.unlink(missing_ok=True)
    assert place_hash(place) is None


def test_what_links_lead_to_counts_and_what_is_no_file_does_not(folder):
    """A split on a larger disk; a loop, a link to nothing and a pipe, at which a reader would wait for ever."""
    write_atomic("elsewhere/0.tar", b"a")
    (folder / "mine").mkdir()
    (folder / "mine/test").symlink_to(folder / "elsewhere")
    before = place_hash("mine")
    (folder / "elsewhere/up").symlink_to(folder / "mine")
    (folder / "mine/nothing").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "mine/pipe")
    assert place_hash("mine") == before
    write_atomic("elsewhere/0.tar", b"b")
    assert place_hash("mine") != before


def test_a_name_with_brackets_and_what_it_matches_both_count(folder):
    """Who opens a file takes the name as it is, who lists files takes it for a pattern."""
    write_atomic("t[1].tsv", b"a")
    first = place_hash("t[1].tsv")
    write_atomic("t1.tsv", b"b")
    assert place_hash("t[1].tsv") not in (first, None)


def test_a_source_that_changes_while_it_is_read_leaves_no_receipt(folder, capsys):
    write_atomic("source.tsv", "a")
    with pytest.raises(SystemExit, match="1"):
        make("one", "x", (), "--sources", "source.tsv", code="open('source.tsv', 'a').write('b'); " + COUNTING)
    assert "source.tsv: changed while this job read it" in capsys.readouterr().err
    assert not (folder / "receipts/one.json").exists()


def test_a_copy_of_a_receipt_is_not_that_of_another_result(folder):
    """As of one seed for the next one."""
    make()
    write_atomic("receipts/two.json", (folder / "receipts/one.json").read_bytes())
    with pytest.raises(ValueError, match=r"receipts/two\.json: a copy of receipts/one\.json, whose result it is"):
        read("receipts/two.json")
    assert read(folder / "receipts/one.json") == read("receipts/one.json")


@pytest.mark.parametrize("text", ["{}", '{"made_from": {}}', "null", "\ufffd", "[" * 100_000])
def test_what_is_no_receipt_is_named(folder, text):
    write_atomic("receipts/notes.json", text)
    with pytest.raises(Conflict, match=r"receipts/notes\.json: (not a receipt|edited since)"):
        align("receipts", "specs")


def test_records_of_dvc_with_a_conflict_are_named_all_at_once(folder):
    write_atomic("results/tiny/clip.dvc", "outs:\n- md5: 1\n  path: clip\n")
    assert tracked("tiny").keys() == {"results/tiny/clip"}
    texts = {"data/tiny/shards": "<<<<<<< ours\nouts:\n", "data/tiny/tests/b": "[", "tables/tiny/a": ""}
    for name, text in texts.items():
        write_atomic(f"{name}.dvc", text)
    found = ", ".join(rf"{name}\.dvc" for name in texts) + r": not a valid DVC record, for instance because of a merge"
    with pytest.raises(Conflict, match=found):
        tracked("tiny")


def test_notes_of_dvc_that_a_kill_left_unreadable_are_cleared_and_others_stay(folder):
    clear_damaged_notes()
    for text, kept in (('{"a": {}}', True), ("", False), ('{"a"', False)):
        write_atomic(NOTES, text)
        clear_damaged_notes()
        assert NOTES.exists() is kept


def test_hidden_files_of_a_folder_do_not_count(folder):
    write_atomic("mine/test/0.tar", b"a")
    before = place_hash("mine")
    for name in (".DS_Store", "test/._0.tar", ".git/HEAD"):
        write_atomic(folder / "mine" / name, b"b")
    assert place_hash("mine") == before


def test_a_known_hash_follows_the_content(folder):
    write_atomic("large", b"a" * (1 << 20))
    assert known_hash("large") == file_hash("large")
    memory = next((folder / ".flip/hashes").iterdir())
    memory.write_text(memory.read_text().rpartition(" ")[0] + " remembered")
    assert known_hash("large") == "remembered"
    write_atomic("large", b"b" * (1 << 20))
    assert known_hash("large") == file_hash("large")


def test_a_specification_that_is_replaced_while_the_job_runs_is_not_what_the_receipt_claims(folder):
    """Who plans the next workflow may write it: the result is that of the parameters that the job began with."""
    plan(width=1)
    began = file_hash("specs/one.json")
    replace = "import json; s = json.load(open('specs/one.json')); s['parameters'] = {'width': 2}; "
    made = make(code=replace + "json.dump(s, open('specs/one.json', 'w')); " + COUNTING)
    assert made["spec"]["parameters"] == {"width": 1}
    assert made["made_from"]["spec"]["sha256"] == began != file_hash("specs/one.json")


def test_frozen_parameters_that_were_replaced_before_the_job_read_them_are_refused(folder, project, capfd):
    """Between the receipt's look at the specification and the command's at the parameters another plan may come."""
    write_atomic("specs/clip.yaml", dump(project.resolve("clip")))
    code = (
        "open('specs/clip.yaml', 'a').write('# ');import sys; from flip.config.frozen import load; load(sys.argv[3]);"
    )
    words = ["--out", "receipts/one.json", "--spec", "specs/one.json", "--outputs", "one.txt", "--"]
    with pytest.raises(SystemExit, match="1"):
        main([*words, sys.executable, "-c", code + COUNTING, "one.txt", "made", "specs/clip.yaml"])
    assert "specs/clip.yaml: replaced since this job began" in capfd.readouterr().err
    assert not (folder / "receipts/one.json").exists()
    write_atomic("specs/clip.yaml", dump(project.resolve("clip")))
    main([*words, sys.executable, "-c", code.split(";", 1)[1] + COUNTING, "one.txt", "made", "specs/clip.yaml"])
    assert read("receipts/one.json")


@pytest.mark.parametrize("change", ["number", "seal", "conflict", "list"])
def test_an_edited_receipt_is_no_record(folder, change, capsys):
    make()
    path = folder / "receipts/one.json"
    receipt = read_json(path) | {"facts": {"metrics": {"fine": 99.0}}}
    text = {"number": json.dumps(receipt), "list": "[]", "conflict": f"<<<<<<< ours\n{path.read_text()}"}
    path.write_text(text.get(change) or json.dumps({k: v for k, v in receipt.items() if k != SEAL}))
    with pytest.raises(ValueError, match=r"receipts/one\.json: (edited since|not a receipt)"):
        read("receipts/one.json")
    with pytest.raises(SystemExit, match="1"):
        make("two", "other", ["receipts/one.json"])
    assert "`git checkout receipts/one.json` brings back" in capsys.readouterr().err
    assert "facts" in make()
    assert read("receipts/one.json")["facts"] == {}
    assert times_made(folder) == 2


def test_receipts_open_as_json(folder):
    make()
    assert json.loads((folder / "receipts/one.json").read_text())["spec"]["stage"] == "one"


def commit(*paths):
    """The first commit of a repository here: of these paths, and of what was added before."""
    identity = ("-c", "user.name=one", "-c", "user.email=one@example.com")
    steps = [["init", "--quiet"], *([["add", *paths]] if paths else [])]
    for words in (*steps, [*identity, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", *words], check=True)


def test_results_do_not_change_the_sources(folder, monkeypatch):
    """Or what is written first would make all that follows look as if it came from other code than the commit's."""
    monkeypatch.setattr(provenance, "PROJECT", folder)
    files = ["flip.py", "receipts/tiny/one.json", "runs/metrics.json", "benchmarks/results.json", "dvc.lock"]
    files.append("results/tiny/clip.dvc")
    for name in files:
        write_atomic(folder / name, "before")
    commit(*files)
    for name in files[1:]:
        write_atomic(folder / name, "after")
        assert provenance.git_state()["changed"] is False, name
    (folder / "notes.txt").touch()
    assert provenance.git_state()["changed"] is False
    write_atomic(folder / "flip/new.py", "a module that nobody has added yet")
    assert provenance.git_state()["changed"] is True
    (folder / "flip/new.py").unlink()
    write_atomic(folder / "flip.py", "after")
    assert provenance.git_state()["changed"] is True


def test_other_parts_of_a_larger_repository_do_not_change_the_sources(folder, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", folder / "part")
    write_atomic(folder / "part/flip/one.py", "")
    write_atomic(folder / "other.py", "before")
    commit(".")
    write_atomic(folder / "other.py", "after")
    assert provenance.git_state()["changed"] is False
    write_atomic(folder / "part/flip/one.py", "after")
    assert provenance.git_state()["changed"] is True


def test_a_folder_that_a_larger_repository_ignores_is_in_none_of_its_commits(folder, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", folder / "part")
    write_atomic(folder / "part/flip/one.py", "")
    write_atomic(folder / ".gitignore", "part/")
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert provenance.git_state()["why"] == "no file of this folder is in the repository"
    subprocess.run(["git", "add", "--force", "."], check=True)
    assert provenance.git_state()["why"] == "the repository has no commit yet"
    commit()
    assert provenance.git_state()["changed"] is False
    write_atomic(folder / ".git/info/exclude", "new.py\n")
    write_atomic(folder / "part/flip/new.py", "")
    assert provenance.git_state()["changed"] is True
    (folder / "part/flip/new.py").unlink()
    subprocess.run(["git", "update-index", "--assume-unchanged", "part/flip/one.py"], check=True)
    assert provenance.git_state()["changed"] is True
    monkeypatch.setenv("GIT_DIR", str(folder / "nowhere"))
    assert provenance.git_state()["commit"]


def test_it_is_said_why_git_cannot_be_asked(folder, monkeypatch):
    monkeypatch.setattr(provenance, "PROJECT", folder)
    assert provenance.git_state() == {
        "commit": None,
        "changed": None,
        "why": "not a git repository (or any of the parent directories): .git",
    }
    monkeypatch.setenv("PATH", str(folder))
    assert provenance.git_state()["why"] == "git is not installed"


def test_a_folder_of_another_owner_is_named(folder, monkeypatch):
    """Git then refuses to say anything, as in a container that mounts a user's folder."""
    subprocess.run(["git", "init", "--quiet"], check=True)
    monkeypatch.setattr(provenance, "PROJECT", folder)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "detected dubious ownership" in provenance.git_state()["why"]


@pytest.mark.parametrize(
    ("git", "said"),
    [
        ({"commit": "a" * 40, "changed": False}, None),
        ({"commit": "a" * 40, "changed": True}, "made with changes that commit aaaaaaaaaa does not have"),
        ({"commit": None, "changed": None, "why": "git is not installed"}, "git is not installed"),
    ],
)
def test_a_receipt_proves_its_code_by_a_clean_commit_alone(git, said):
    found = provenance.unproven({"git": git})
    assert (found is None) if said is None else (said in found)


def test_results_in_git_come_from_clean_commits_of_its_history():
    """Receipts and benchmarks that are committed: whoever reads a number can look up the code behind it."""
    listed = subprocess.run(["git", "ls-files", "-z", "receipts"], cwd=ROOT, capture_output=True, text=True, check=True)
    receipts = {path: read(ROOT / path) for path in listed.stdout.split("\0")[:-1]}
    measured = read_json(ROOT / "benchmarks/results.json")
    receipts |= {f"benchmarks/results.json: {name}": one for name, one in measured.items()}
    assert {path: why for path, one in receipts.items() if (why := provenance.unproven(one))} == {}
    history = subprocess.run(["git", "rev-list", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shallow = (ROOT / ".git/shallow").exists()
    assert shallow or {one["git"]["commit"] for one in receipts.values()} <= set(history.split())


def test_of_thousands_of_outputs_a_job_checks_those_that_its_command_names():
    receipt = {"made": {"table/0000.parquet": 1, "table/0001.parquet": 2}}
    assert read_by(["download", "--table", "table/0001.parquet"], receipt) == {"table/0001.parquet": 2}
    assert read_by(["manifest", "--folder", "table"], receipt) == receipt["made"]
