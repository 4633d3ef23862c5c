"""A receipt says what a result was made from and what it is; a result that stands is not made again, and of two
processes that are to make the same one waits."""

import ast
import json
import signal
import subprocess
import sys
import time

import pytest

from flip import provenance
from flip.files import file_hash, known_hash, read_json, write_atomic, write_json
from flip.provenance import source_hash
from flip.receipt import main, source_identity

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
    words = ["--out", f"receipts/{name}.json", "--spec", "specs/one.json", "--made", f"{name}.txt"]
    words += ["--after", *after] if after else []
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
    first = make("one", "a", (), "--within", "shown", code=code)
    assert list(first["made"]) == ["one.txt", "shown/a"]
    assert make("one", "a", (), "--within", "shown", code=code) == first
    (folder / "shown" / "a").unlink()
    assert make("one", "a", (), "--within", "shown", code=code)["made"] == first["made"]
    assert times_made(folder) == 2
    assert make("two", "b", (), "--within", "shown")["made"].keys() == {"two.txt", "shown/a"}
    assert make("three", "b", (), "--within", "nowhere")["made"].keys() == {"three.txt"}


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
        write_json("receipts/zero.json", read_json("receipts/zero.json") | {"id": "0"})
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
        (lambda: (folder / "one.txt").unlink(), "one.txt: not here, though receipts/one.json says"),
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
    assert "the sources of flip.files have changed since this job was planned" in capsys.readouterr().err
    assert not (folder / "count").exists()


def test_a_command_that_fails_or_makes_nothing_leaves_no_receipt(folder, capsys):
    for code, status in (("raise SystemExit(7)", "7"), ("pass", "1")):
        with pytest.raises(SystemExit, match=status):
            make(code=code)
    assert "one.txt: missing, though the command" in capsys.readouterr().err
    assert not (folder / "receipts/one.json").exists()


def start(code):
    words = ["--out", "receipts/one.json", "--spec", "specs/one.json", "--made", "one.txt", "--"]
    return subprocess.Popen([sys.executable, "-m", "flip.receipt", *words, sys.executable, "-c", code, "one.txt", "x"])


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


def test_a_source_is_known_by_size_and_ends(folder):
    write_atomic("source.tsv", b"a" * 200_000)
    before = source_identity("source.tsv")
    write_atomic("source.tsv", b"a" * 199_999 + b"b")
    assert source_identity("source.tsv") != before
    write_atomic("source.tsv", b"a" * 200_001)
    assert source_identity("source.tsv") != before


def test_a_known_hash_follows_the_content(folder):
    write_atomic("large", b"a" * (1 << 20))
    assert known_hash("large") == file_hash("large")
    memory = next((folder / ".flip/hashes").iterdir())
    memory.write_text(memory.read_text().rpartition(" ")[0] + " remembered")
    assert known_hash("large") == "remembered"
    write_atomic("large", b"b" * (1 << 20))
    assert known_hash("large") == file_hash("large")


def test_receipts_open_as_json(folder):
    make()
    assert json.loads((folder / "receipts/one.json").read_text())["spec"]["stage"] == "one"


def test_imports_are_found_in_whatever_block_they_stand():
    """As a walk through the whole syntax tree finds them, in all modules of this package."""

    def everywhere(module):
        nodes = list(ast.walk(ast.parse(provenance._source(module).read_text())))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {name for node in froms for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
        kept = {name for name in names if name.startswith("flip.") and provenance._source(name)}
        return kept - provenance.PARAMETERS

    paths = [path.relative_to(provenance.ROOT.parent).with_suffix("") for path in provenance.ROOT.rglob("*.py")]
    modules = {".".join(path.parts).removesuffix(".__init__").removesuffix(".__main__") for path in paths}
    assert len(modules) > 150
    assert {module: provenance._imports(module) for module in modules} == {one: everywhere(one) for one in modules}


def test_results_do_not_change_the_sources(folder, monkeypatch):
    """Or what is written first would make all that follows look as if it came from other code than the commit's."""
    monkeypatch.setattr(provenance, "ROOT", folder)
    files = ["flip.py", "receipts/tiny/one.json", "metrics/tiny/one.json", "benchmarks/results.json", "dvc.lock"]
    for name in files:
        write_atomic(folder / name, "before")
    identity = ("-c", "user.name=one", "-c", "user.email=one@example.com")
    for words in (["init", "--quiet"], ["add", *files], [*identity, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", *words], check=True)
    for name in files[1:]:
        write_atomic(folder / name, "after")
        assert provenance.git_state()["changed"] is False, name
    write_atomic(folder / "flip.py", "after")
    assert provenance.git_state()["changed"] is True
