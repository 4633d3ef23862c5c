"""DVC and Snakemake tell one story: whichever ran, the other finds nothing to do; a change, a clone or an experiment
makes neither of them run too much or lose something.

Everything here is real: both tools, in clones of their own, with a folder as the remote."""

import io
import json
import re
from pathlib import Path

import pandas as pd

from tests.miniature import (
    VARIANTS,
    call,
    dvc,
    edit,
    planned,
    ran,
    snakemake,
)
from tests.versioned import commit, is_up_to_date, reconcile, stages

WORK = {"table", "download", "shards", "tokenizer", "pretrain", "evaluate", "cost", "tables"}


def test_a_run_of_snakemake_is_recorded_and_nothing_runs_again(recorded):
    folder, said = recorded
    assert said == f"Recorded with DVC: data, {', '.join(f'variant@{name}' for name in VARIANTS)}, tables@ablations.\n"
    is_up_to_date(folder)
    assert stages(dvc(folder, "repro")) == []
    assert call(folder, "git", "status", "--porcelain") == ""


def test_an_experiment_runs_what_its_change_asks_for(work):
    """In place: the tables, as a value of `base` is theirs alone. In a folder of its own: one variant."""
    said = dvc(work, "exp", "run", "--name", "more", "-S", "base.bootstrap.resamples=300")
    assert stages(said) == ["specs", "tables@ablations"]
    assert set(ran(said)) & WORK == {"tables"}

    said = dvc(work, "exp", "run", "--temp", "--name", "less", "-S", "variants.flip-75.masking.image=0.7")
    assert stages(said) == ["specs", "variant@flip-75", "tables@ablations"]
    assert set(ran(said)) & WORK == {"cost", "evaluate", "pretrain", "tables"}
    assert ran(said).count("pretrain") == ran(said).count("evaluate") == 1
    is_up_to_date(work)

    (work / "shown.csv").write_text(dvc(work, "exp", "show", "--csv"))
    shown = pd.read_csv(work / "shown.csv").set_index("Experiment")
    assert {"less", "more"} <= set(shown.index)
    metrics = [*(f"fine.{name}" for name in VARIANTS)]
    first = [*metrics, "pictures", "share_used", "training_hours"]
    assert sorted(shown.columns[4 : 4 + len(first)]) == sorted(first)
    assert shown.loc[["less", "more"], first].notna().all(axis=None)
    assert float(shown.loc["less", "variants.flip-75.masking.image"]) == 0.7
    assert float(shown.loc["more", "base.bootstrap.resamples"]) == 300
    assert len(re.findall(r"fine\.clip", dvc(work, "metrics", "diff", "main", "--all"))) == 1

    found = call(work, "python", "-m", "flip.report.compare", "main", "less", "more", "--csv")
    found = pd.read_csv(io.StringIO(found)).set_index(["variant", "state"])
    assert len(found) == 3 * len(VARIANTS)
    assert found.commit["flip-75", "main"] != found.commit["flip-75", "less"]
    assert found.fine["clip", "main"] == found.fine["clip", "more"]
    assert "'none': no Git revision" in call(work, "python", "-m", "flip.report.compare", "none", check=False)

    page = dvc(work, "plots", "show", "--out", "plots").strip().removeprefix("file://")
    assert Path(page).read_text().count("<img") == 2


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
    assert "data" in json.loads(dvc(work, "status", "--json"))


def test_a_clone_and_a_pull_run_nothing(clone):
    """What was pulled and is not what was recorded is named, and nothing is touched; once it is, nothing runs."""
    dvc(clone, "pull")
    names = ["results/tiny/clip/seed-0/weights.safetensors", "tables/tiny/ablations/a.md"]
    content = {name: (clone / name).read_bytes() for name in names}
    for name in names:
        replace(clone / name, content[name] + b"x")
    said = reconcile(clone, check=False)
    assert said.startswith(f"not what dvc.lock says: {', '.join(names)}. Nothing was touched.")
    assert not (clone / "specs").exists()
    assert all((clone / name).read_bytes() == content[name] + b"x" for name in names)
    assert f"not what their receipts say: {names[0]};" in snakemake(clone, "-n", check=False)
    for name in names:
        replace(clone / name, content[name])
    assert "What is here is what was recorded." in reconcile(clone)
    is_up_to_date(clone)
    assert stages(dvc(clone, "repro")) == []


def replace(path, content):
    """Another file of that name: what DVC pulls is linked to what its cache holds."""
    path.unlink()
    path.write_bytes(content)


def test_tables_alone_are_pulled_and_weights_on_request(clone):
    dvc(clone, "pull", "tables")
    assert (clone / "tables/tiny/ablations/index.html").exists()
    assert not (clone / "data").exists()
    said = reconcile(clone)
    assert "Recorded, and not here: data/tiny/" in said
    assert "Nothing to be done" in snakemake(clone, "-n", "ablations")
    edit(clone, "params.yaml", "wordpiece", "clip")
    failed = snakemake(clone, "tables", check=False) + snakemake(clone, "data", check=False)
    assert "data/tiny/manifest.json: not here, though" in failed
    assert "dvc pull data/tiny/manifest.json" in failed


def test_a_change_of_a_source_file_remakes_the_tables_and_a_branch_switch_and_back_runs_nothing(work):
    call(work, "git", "checkout", "--quiet", "-b", "other")
    edit(work, "flip/report/formats.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ")
    said = dvc(work, "repro")
    assert stages(said) == ["specs", "tables@ablations"]
    assert set(ran(said)) & WORK == {"tables"}
    commit(work)
    for branch in ("main", "other"):
        call(work, "git", "checkout", "--quiet", branch)
        dvc(work, "checkout")
        reconcile(work)
        is_up_to_date(work)
