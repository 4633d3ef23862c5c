"""DVC and Snakemake tell one story: whichever ran, the other finds nothing to do; a change, a clone, a merge or an
experiment makes neither of them run too much or lose something.

Everything here is real: both tools, in clones of their own, with a folder as the remote."""

import io
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.miniature import (
    ROOT,
    VARIANTS,
    call,
    dvc,
    edit,
    planned,
    ran,
    snakemake,
    write_params,
)
from tests.versioned import commit, is_up_to_date, reconcile

pytestmark = pytest.mark.long(5)

WORK = {"table", "download", "shards", "tokenizer", "pretrain", "evaluate", "cost", "tables"}
# Of the miniature, whose variants have one seed each and mask no text.
METRICS, PARAMETERS = ["fine", "r1", "tflop", "time"], ["mask", "batch", "lr", "epochs", "loss"]


def shown(folder, *words):
    """The rows of `dvc exp show`, by the name of the experiment."""
    return pd.read_csv(io.StringIO(dvc(folder, "exp", "show", "--csv", *words))).set_index("Experiment")


def test_a_run_of_snakemake_is_recorded_and_nothing_runs_again(recorded):
    folder, said = recorded
    names = said.removeprefix("Recorded with DVC: ").removesuffix(".\n").split(", ")
    assert {"data/tiny/shards", "data/tiny/tests/fine", "tables/tiny/ablations"} <= set(names)
    assert {f"results/tiny/{name}" for name in VARIANTS} <= set(names)
    is_up_to_date(folder)
    again = dvc(folder, "repro")
    assert (ran(again), "Recorded with DVC: nothing new." in again) == ([], True)
    assert call(folder, "git", "status", "--porcelain") == ""


def test_rows_are_variants_and_have_no_hashes(work):
    """A commit below which there are none yet has them when it is made: Git's hook writes them."""
    (work / "notes.txt").touch()
    commit(work)
    rows = shown(work)
    assert {*VARIANTS} <= {*rows.index}
    assert rows.columns.tolist() == ["rev", "typ", "Created", "parent", *METRICS, *PARAMETERS]
    assert rows.loc[[*VARIANTS], [*METRICS, *PARAMETERS]].notna().all(axis=None)
    assert rows["mask"][["clip", "flip-50", "flip-75", "flip-50-tuned"]].tolist() == [0, 0.5, 0.75, 0]
    assert rows.loc["flip-75-mae", "loss"] == "nce+mae"
    assert json.loads((work / "runs/metrics.json").read_text()) == {}
    wide = dvc(work, "exp", "show", "--only-changed", "--sort-by", "fine")
    assert max(len(line.rstrip()) for line in wide.splitlines() if "flip-50-tuned" in line) <= 120
    said = dvc(work, "exp", "diff", "clip", "flip-50", "--md")
    assert re.search(r"mask +\| 0.0 +\| 0.5", said)
    page = Path(dvc(work, "plots", "diff", "clip", "flip-50", "--out", "plots").strip().removeprefix("file://"))
    assert all(f'"rev": "{name}"' in page.read_text() for name in ("clip", "flip-50"))
    assert call(work, "git", "status", "--porcelain") == "?? plots/\n"


def test_a_queued_experiment_runs_what_its_change_asks_for_in_a_folder_of_its_own(work):
    """The tables, as a value of `base` is theirs alone; what is here stays as it is."""
    dvc(work, "exp", "run", "--queue", "--name", "more", "-S", "base.bootstrap.resamples=300")
    dvc(work, "exp", "run", "--run-all")
    assert set(ran(dvc(work, "queue", "logs", "more"))) & WORK == {"tables"}
    is_up_to_date(work)
    assert call(work, "git", "status", "--porcelain") == ""
    assert shown(work).loc["more", [*METRICS, "base.bootstrap.resamples"]].notna().all()


def commands(page, places):
    """The commands of a page's first example, with places of this machine in those of the reader."""
    example = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)[1]
    for told, place in places.items():
        assert told in example
        example = example.replace(told, place)
    return [line.split("#")[0].strip() for line in example.splitlines() if line.split("#")[0].strip()]


def test_the_page_on_sharing_holds_word_for_word(made, tmp_path):
    """But for the set-up of a clone, which is this environment's."""
    folder = shutil.copytree(made, tmp_path / "work", symlinks=True)
    call(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder)
    call(folder, "python", "-m", "flip.report.record")
    told = {"/shared/flip": f"{tmp_path}/shared", "<this repository>": f"{folder} flip"}
    told |= {"make setup && . .venv/bin/activate": "true", "make reconcile": "flip reconcile"}
    script = "\n".join(["set -eo pipefail", *commands("share.md", told)]).replace("git clone", "cd ..; git clone")
    said = call(folder, "bash", "-c", script)
    assert set(ran(said)) & WORK == {"cost", "evaluate", "pretrain", "tables"}
    assert ran(said).count("pretrain") == 1
    rows = shown(tmp_path / "flip")
    assert rows.loc["lower", ["variant", "mask"]].tolist() == ["flip-75", 0.7]
    assert {*VARIANTS} <= {*rows.index}
    assert "flip-75" in said
    assert "'none': no Git revision" in call(tmp_path / "flip", "flip", "compare", "none", check=False)


def test_code_that_leaves_the_data_as_it_was_trains_nothing(work):
    """The shards are written again; as they come out the same, every weight stays."""
    weights = sorted(work.glob("results/tiny/*/seed-0/weights.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    edit(work, "flip/data/shards.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ")
    done = set(ran(snakemake(work, "ablations")))
    assert {"shards", "manifest"} <= done
    assert not {"table", "download", "fingerprints", "duplicates"} & done
    assert [path.stat().st_mtime_ns for path in weights] == before
    # Recorded by Snakemake itself: an experiment would put what is not recorded aside.
    is_up_to_date(work)


def test_other_data_makes_every_stage_run(work):
    edit(work, "params.yaml", "wrong_captions: 0.05", "wrong_captions: 0.5")
    plan = planned(snakemake(work, "-n", "ablations"))
    assert set(plan) >= WORK
    assert plan["pretrain"] == plan["evaluate"] == len(VARIANTS)


def test_a_clone_and_a_pull_run_nothing(clone):
    """What was pulled and is not what was recorded is named, and nothing is touched; once it is, nothing runs."""
    dvc(clone, "pull")
    names = ["results/tiny/clip/seed-0/weights.safetensors", "tables/tiny/ablations/a.md"]
    content = {name: (clone / name).read_bytes() for name in names}
    for name in names:
        replace(clone / name, content[name] + b"x")
    said = reconcile(clone, check=False)
    assert said.startswith(f"not what was recorded: {', '.join(names)}. Nothing was touched.")
    assert not (clone / "specs").exists()
    assert all((clone / name).read_bytes() == content[name] + b"x" for name in names)
    assert f"not what their receipts say: {names[0]};" in snakemake(clone, "-n", check=False)
    for name in names:
        replace(clone / name, content[name])
    said = reconcile(clone)
    assert re.search(r"^(\d+) of \1 recorded files are here, as they were recorded\.$", said, re.MULTILINE)
    is_up_to_date(clone)
    assert ran(dvc(clone, "repro")) == []
    assert {*VARIANTS} <= {*shown(clone).index}


def replace(path, content):
    """Another file of that name: what DVC pulls is linked to what its cache holds."""
    path.unlink()
    path.write_bytes(content)


def test_tables_alone_are_pulled_and_weights_on_request(clone):
    """What jobs read and what is not here is named at once, before one of them begins."""
    assert re.search(r"^0 of [1-9]\d+ recorded files are here\.$", reconcile(clone), re.MULTILINE)
    dvc(clone, "pull", "tables/tiny/ablations")
    assert (clone / "tables/tiny/ablations/index.html").exists()
    assert not (clone / "data/tiny/shards").exists()
    assert "Not here: data/tiny/ledger.json, data/tiny/manifest.json, data/tiny/shards" in reconcile(clone)
    assert "Nothing to be done" in snakemake(clone, "-n", "ablations")
    edit(clone, "flip/report/formats.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ")
    failed = snakemake(clone, "ablations", check=False)
    pulled = re.search(r"`dvc pull (.*)` fetches them", failed)[1].split()
    assert pulled == [
        "data/tiny/ledger.json",
        "data/tiny/manifest.json",
        *(f"results/tiny/{name}" for name in sorted(VARIANTS)),
    ]
    assert ran(failed) == []
    dvc(clone, "pull", *pulled)
    assert set(ran(snakemake(clone, "ablations"))) == {"tables", "ablations"}


def test_a_change_of_a_source_file_remakes_the_tables_and_a_branch_switch_and_back_runs_nothing(work):
    call(work, "git", "checkout", "--quiet", "-b", "other")
    edit(work, "flip/report/formats.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ")
    assert set(ran(dvc(work, "repro"))) & WORK == {"tables"}
    commit(work)
    for branch in ("main", "other"):
        call(work, "git", "checkout", "--quiet", branch)
        dvc(work, "checkout")
        is_up_to_date(work)


@pytest.fixture
def branches(work):
    """Two branches, each with another variant trained anew, and both tables made of it."""
    for branch, variant, changed in (
        ("mine", "flip-50-tuned", {"train": {"base_lr": 0.002}}),
        ("theirs", "flip-75-mae", {"reconstruction": {"weight": 0.5}}),
    ):
        call(work, "git", "checkout", "--quiet", "-b", branch, "main")
        dvc(work, "checkout")
        write_params(work, lambda tree, name=variant, delta=changed: tree["variants"][name].update(delta) or tree)
        assert ran(snakemake(work, "ablations")).count("pretrain") == 1
        commit(work, branch)
    return work


def test_branches_that_changed_different_variants_merge(branches):
    """What is made of both conflicts unless Git is told, as `make setup` does, that it is made again; the way out that
    is named is one."""
    said = call(branches, "git", "merge", "--quiet", "mine", check=False)
    clashed = re.findall(r"^CONFLICT .* in (\S+)$", said, re.MULTILINE)
    derived = {"receipts/tiny/tables/ablations/*", "tables/tiny/ablations.dvc"}
    assert {re.sub(r"[a-z]+\.json", "*", name) for name in clashed} == derived
    failed = snakemake(branches, "-n", "ablations", check=False)
    taken = re.search(r"`(git checkout --ours .*?)` .* `(git add .*?)`", failed).groups()
    assert {*taken[1].split()[2:]} == {*clashed}
    for command in taken:
        call(branches, *command.split())
    plans(branches)

    call(branches, "git", "reset", "--quiet", "--hard")
    call(branches, "git", "config", "merge.ours.driver", "true")
    call(branches, "git", "merge", "--quiet", "mine")
    plans(branches)


def plans(folder):
    dvc(folder, "checkout")
    plan = planned(snakemake(folder, "-n", "ablations"))
    assert set(plan) <= {"ablations", "cost", "tables"}
    assert plan["tables"] == 1


def test_what_is_left_of_a_variant_goes_with_one_command(work):
    """And stays while DVC has not recorded it."""
    path = work / "params.yaml"
    path.write_text(path.read_text().replace("flip-75-mae", "flip-75-pixels"))
    said = snakemake(work, "-n", "ablations")
    assert "Results of no variant in params.yaml, left unchanged: results/tiny/flip-75-mae." in said
    assert planned(said)["pretrain"] == 1
    tidy = ("python", "-m", "flip", "tidy")
    places = ["checkpoints/tiny/flip-75-mae", "receipts/tiny/variants/flip-75-mae"]
    places += ["results/tiny/flip-75-mae", "results/tiny/flip-75-mae.dvc"]
    record = work / "results/tiny/flip-75-mae.dvc"
    text = record.read_text()
    record.unlink()
    assert "results/tiny/flip-75-mae: not recorded with DVC, so nothing was deleted" in call(work, *tidy, check=False)
    record.write_text(text)
    assert call(work, *tidy, "--dry-run").splitlines() == [f"would delete {place}" for place in places]
    assert json.loads(call(work, *tidy, "--dry-run", "--json")) == places
    assert all((work / place).exists() for place in places)
    assert call(work, *tidy).splitlines() == [f"deleted {place}" for place in places]
    assert "flip-75-mae" not in snakemake(work, "-n", "ablations")
    assert call(work, "git", "rev-parse", "--verify", "HEAD:results/tiny/flip-75-mae.dvc")


def test_what_gc_took_in_one_branch_is_named_in_the_other_and_a_worktree_stands_by_itself(work, tmp_path):
    """A branch without a variant, whose `dvc gc` leaves only what it has; the remote has the rest."""
    gone = "results/tiny/flip-75-mae"
    call(work, "git", "checkout", "--quiet", "-b", "without")
    shutil.rmtree(work / gone)
    (work / f"{gone}.dvc").unlink()
    commit(work)
    dvc(work, "gc", "--workspace", "--force")
    call(work, "git", "checkout", "--quiet", "main")
    dvc(work, "checkout", check=False)
    assert not (work / gone / "seed-0/weights.safetensors").exists()
    assert f"Not here: {gone}/. `dvc pull" in reconcile(work)
    dvc(work, "pull", gone)
    is_up_to_date(work)
    tree = tmp_path / "tree"
    call(work, "git", "worktree", "add", "--quiet", "-b", "beside", str(tree))
    dvc(tree, "pull")
    reconcile(tree)
    is_up_to_date(tree)
