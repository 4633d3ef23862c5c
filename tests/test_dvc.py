"""DVC and Snakemake tell one story: whichever ran, the other finds nothing to do; a change, a clone, an experiment, a
kill or another kind of cache makes neither of them run too much, lose something or write into what DVC keeps.

Everything here is real: both tools, in clones of their own, with a folder as the remote."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from hashlib import md5
from pathlib import Path

import pandas as pd
import pytest

from flip.files import read_json
from tests.miniature import (
    VARIANTS,
    call,
    copy_workflow,
    dvc,
    edit,
    environment,
    planned,
    ran,
    shrink,
    snakemake,
    write_params,
)

WORK = {"table", "download", "shards", "tokenizer", "pretrain", "evaluate", "cost", "tables"}


def stages(output):
    """The DVC stages that ran, from what `dvc repro` printed."""
    return re.findall(r"^Running stage '([^']+)'", output, re.MULTILINE)


def commit(folder, message="A state to come back to"):
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", message)


def reconcile(folder, check=True):
    return call(folder, "python", "-m", "flip.reconcile", check=check)


def is_up_to_date(folder):
    assert "Data and pipelines are up to date" in dvc(folder, "status")
    assert "Nothing to be done" in snakemake(folder, "-n", "ablations")


@pytest.fixture(scope="module")
def recorded(made, tmp_path_factory):
    """The run of `made` in Git, recorded with DVC and pushed to a folder; and what recording it said."""
    base = tmp_path_factory.mktemp("recorded")
    folder, remote = base / "work", base / "remote"
    shutil.copytree(made, folder, symlinks=True)
    call(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder)
    said = call(folder, "python", "-m", "flip.record")
    dvc(folder, "remote", "add", "--default", "store", str(remote))
    commit(folder, "Recorded")
    dvc(folder, "push")
    return folder, said


@pytest.fixture
def work(recorded, tmp_path):
    """A copy of the recorded folder to change."""
    return Path(shutil.copytree(recorded[0], tmp_path / "work", symlinks=True))


@pytest.fixture
def clone(recorded, tmp_path):
    """A fresh clone, nothing pulled."""
    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(recorded[0]), str(folder))
    return folder


def test_a_run_of_snakemake_is_recorded_and_nothing_runs_again(recorded):
    folder, said = recorded
    assert said == f"Recorded with DVC: data, {', '.join(f'variant@{name}' for name in VARIANTS)}, tables@ablations.\n"
    assert stages(dvc(folder, "repro")) == []
    is_up_to_date(folder)
    assert call(folder, "git", "status", "--porcelain") == ""


def test_an_experiment_runs_what_its_change_asks_for(work):
    """In place: one variant. In a folder of its own: how all are evaluated."""
    said = dvc(work, "exp", "run", "--name", "less", "-S", "variants.flip-75.masking.image=0.7")
    assert stages(said) == ["specs", "variant@flip-75", "tables@ablations"]
    assert sorted(set(ran(said)) & WORK) == ["cost", "evaluate", "pretrain", "tables"]
    assert ran(said).count("pretrain") == ran(said).count("evaluate") == 1
    is_up_to_date(work)

    said = dvc(work, "exp", "run", "--temp", "--name", "larger", "-S", "scales.tiny.evaluate.batch=32")
    assert set(ran(said)) & WORK == {"evaluate", "tables"}
    is_up_to_date(work)

    (work / "shown.csv").write_text(dvc(work, "exp", "show", "--csv"))
    shown = pd.read_csv(work / "shown.csv").set_index("Experiment")
    assert {"less", "larger"} <= set(shown.index)
    metrics = [*(f"fine.{name}" for name in VARIANTS)]
    first = [*metrics, "pictures", "share_used", "training_hours"]
    assert sorted(shown.columns[4 : 4 + len(first)]) == sorted(first)
    assert shown.loc[["less", "larger"], first].notna().all(axis=None)
    assert float(shown.loc["less", "variants.flip-75.masking.image"]) == 0.7
    assert float(shown.loc["larger", "scales.tiny.evaluate.batch"]) == 32
    assert len(re.findall(r"fine\.clip", dvc(work, "metrics", "diff", "main", "--all"))) == 1

    found = call(work, "python", "-m", "flip.compare", "main", "less", "larger", "--csv")
    found = pd.read_csv(io.StringIO(found)).set_index(["variant", "state"])
    assert len(found) == 3 * len(VARIANTS)
    assert found.commit["flip-75", "main"] != found.commit["flip-75", "less"]
    assert found.fine["clip", "main"] == found.fine["clip", "larger"]
    assert "'none': no Git revision" in call(work, "python", "-m", "flip.compare", "none", check=False)

    page = dvc(work, "plots", "show", "--out", "plots").strip().removeprefix("file://")
    assert Path(page).read_text().count("<img") == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("params.yaml", "resamples: 200", "resamples: 300", {"tables"}),
        ("flip/report/formats.py", '"""', '"""Changed. ', {"tables"}),
    ],
)
def test_a_change_of_a_base_value_or_a_source_file(work, file, old, new, expected):
    edit(work, file, old, new)
    said = dvc(work, "repro")
    assert stages(said) == ["specs", "tables@ablations"]
    assert set(ran(said)) & WORK == expected
    is_up_to_date(work)


def test_code_that_leaves_the_data_as_it_was_trains_nothing(work):
    """The shards are written again; as they come out the same, every weight stays."""
    weights = sorted(work.glob("results/tiny/*/seed-0/weights.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    edit(work, "flip/data/shards.py", '"""', '"""Changed. ')
    plan = planned(snakemake(work, "-n", "ablations"))
    assert {"shards", "manifest"} <= set(plan)
    assert not {"table", "download", "fingerprints", "duplicates"} & set(plan)
    snakemake(work, "ablations")
    assert [path.stat().st_mtime_ns for path in weights] == before
    # Recorded by Snakemake itself: an experiment would put what is not recorded aside.
    assert stages(dvc(work, "repro")) == []
    is_up_to_date(work)


def test_other_data_makes_every_stage_run(work):
    edit(work, "params.yaml", "wrong_captions: 0.05", "wrong_captions: 0.5")
    plan = planned(snakemake(work, "-n", "ablations"))
    assert set(plan) >= WORK
    assert plan["pretrain"] == plan["evaluate"] == len(VARIANTS)
    assert "data" in json.loads(dvc(work, "status", "--json"))


def test_a_clone_and_a_pull_run_nothing(clone):
    dvc(clone, "pull")
    assert "What is here is what was recorded." in reconcile(clone)
    is_up_to_date(clone)
    assert stages(dvc(clone, "repro")) == []


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


@pytest.mark.parametrize("name", ["tables/tiny/ablations/a.md", "results/tiny/clip/seed-0/weights.safetensors"])
def test_a_pulled_file_that_is_not_what_was_recorded_is_named(clone, name):
    dvc(clone, "pull")
    path = clone / name
    content = path.read_bytes() + b"x"
    path.unlink()
    path.write_bytes(content)
    said = reconcile(clone, check=False)
    assert said.startswith(f"not what dvc.lock says: {name}. Nothing was touched.")
    assert not (clone / "specs").exists()
    assert path.read_bytes() == content
    if "weights" in name:
        assert f"not what their receipts say: {name}" in snakemake(clone, "-n", check=False)


def test_a_branch_switch_and_back_runs_nothing(work):
    call(work, "git", "checkout", "--quiet", "-b", "other")
    edit(work, "params.yaml", "resamples: 200", "resamples: 300")
    dvc(work, "repro")
    commit(work)
    call(work, "git", "checkout", "--quiet", "main")
    dvc(work, "checkout")
    reconcile(work)
    is_up_to_date(work)
    call(work, "git", "checkout", "--quiet", "other")
    dvc(work, "checkout")
    reconcile(work)
    is_up_to_date(work)


def until(condition, process):
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)


def kill_while_training(folder, *words):
    """Starts a tool, and kills it, and nothing that it started, as soon as a variant is in training."""
    with (
        open(folder / "killed.log", "a") as log,
        subprocess.Popen(words, cwd=folder, env=environment(folder), stdout=log, stderr=log) as process,
    ):
        until(lambda: any((folder / "checkpoints/tiny").glob("*/*")), process)
        os.kill(process.pid, signal.SIGKILL)
    return len(list(folder.glob("receipts/tiny/variants/*/*/pretrain.json")))


def test_a_fresh_workspace_and_two_kills(tmp_path):
    """`dvc repro` from nothing, killed; then Snakemake, killed; then `dvc repro` brings it to its end."""
    folder, variants = copy_workflow(tmp_path), ("clip", "flip-50", "flip-50-tuned")
    write_params(folder, lambda tree: smaller(shrink(tree), variants))
    call(folder, "git", "init", "--quiet")
    commit(folder)
    assert kill_while_training(folder, "dvc", "repro") < len(variants)
    assert kill_while_training(folder, "snakemake", "ablations") < len(variants)
    said = dvc(folder, "repro")
    assert "table" not in ran(said)
    assert ran(said).count("pretrain") < len(variants)
    is_up_to_date(folder)
    assert stages(dvc(folder, "repro")) == []


def cached(folder):
    return [path for path in (folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]


def smaller(tree, variants=("clip",)):
    """A project of a few variants only."""
    tree["variants"] = {name: tree["variants"][name] for name in variants}
    tree["tables"] = {"a": tree["tables"]["a"] | {"variants": list(variants)}}
    tree["tradeoff"]["curves"] = {"mask 0%": ["clip"]}
    return tree


def test_no_job_writes_into_the_cache(work):
    """All is made anew where it is linked to the cache, hard or symbolically; what the cache holds stays as named."""
    for kind, places in (
        ("hardlink", ["data", "tables@ablations"]),
        ("symlink", [f"variant@{name}" for name in VARIANTS]),
    ):
        dvc(work, "config", "cache.type", kind)
        dvc(work, "checkout", "--relink", *places)
    assert (work / "tables/tiny/ablations/index.html").stat().st_nlink > 1
    assert (work / "results/tiny/clip/seed-0/weights.safetensors").is_symlink()

    def other_world(tree):
        tree["base"]["world"]["seed"] = 1
        return smaller(tree)

    write_params(work, other_world)
    snakemake(work, "ablations")
    assert len(cached(work)) > 30
    for path in cached(work):
        assert md5(path.read_bytes()).hexdigest() == f"{path.parent.name}{path.name}".removesuffix(".dir"), path
    assert read_json(work / "data/tiny/manifest.json")["samples"] > 100


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def s3(tmp_path):
    """The address of a server that speaks S3 over HTTP and asks for keys (rclone, from the lock), with one bucket."""
    (tmp_path / "store/bucket").mkdir(parents=True)
    port = free_port()
    words = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    words += ["--auth-key", "name,secret", "--vfs-cache-mode", "off", str(tmp_path / "store")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 30
        with socket.socket() as client:
            while client.connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def use(folder, address):
    """What the README says about a remote that speaks S3."""
    dvc(folder, "remote", "add", "--force", "--default", "lab", "s3://bucket/flip")
    dvc(folder, "remote", "modify", "lab", "endpointurl", address)
    dvc(folder, "remote", "modify", "lab", "region", "us-east-1")
    for key, value in (("access_key_id", "name"), ("secret_access_key", "secret")):
        dvc(folder, "remote", "modify", "--local", "lab", key, value)


def test_an_s3_remote_holds_what_was_pushed_and_gives_what_is_asked_for(work, clone, s3, tmp_path):
    use(work, s3)
    dvc(work, "push", "tables")
    sizes = [path.stat().st_size for path in (tmp_path / "store/bucket").rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < sum(path.stat().st_size for path in cached(work)) / 2
    use(clone, s3)
    commit(clone, "The remote")
    dvc(clone, "pull", "tables")
    assert (clone / "tables/tiny/ablations/index.html").read_bytes() == (
        work / "tables/tiny/ablations/index.html"
    ).read_bytes()
    said = dvc(clone, "pull", "results/tiny/clip", check=False)
    assert "results/tiny/clip" in said
    assert "failed" in said.lower()
    assert not (clone / "results/tiny/clip/seed-0/weights.safetensors").exists()
    dvc(work, "push", "variant@clip")
    dvc(clone, "pull", "results/tiny/clip")
    reconcile(clone)
    assert "Nothing to be done" in snakemake(clone, "-n", "ablations")
    assert ".dvc/config.local" not in call(clone, "git", "ls-files", "--others", "--exclude-standard")


def test_no_remote_is_said_so(clone):
    dvc(clone, "remote", "remove", "store")
    assert "no remote" in dvc(clone, "pull", check=False).lower()


def test_a_renamed_variant_leaves_its_results(work):
    edit(work, "params.yaml", "  flip-75-mae:", "  flip-75-pixels:")
    edit(work, "params.yaml", "- flip-75-mae", "- flip-75-pixels")
    said = snakemake(work, "-n", "ablations")
    assert "Results of no variant in params.yaml, left as they are: results/tiny/flip-75-mae." in said
    assert planned(said)["pretrain"] == 1
    assert (work / "results/tiny/flip-75-mae/seed-0/weights.safetensors").exists()


def test_a_plan_does_not_change_under_jobs_at_work(work):
    """While one Snakemake works, another cannot plan with edited parameters; with the same ones it may look."""
    edit(work, "params.yaml", " image: 0.75", " image: 0.7")
    log = work / "work.log"
    with (
        open(log, "w") as output,
        subprocess.Popen(
            ["snakemake", "ablations"], cwd=work, env=environment(work), stdout=output, stderr=subprocess.STDOUT
        ) as one,
    ):
        until(lambda: "rule pretrain" in log.read_text(), one)
        snakemake(work, "-n", "ablations")
        edit(work, "params.yaml", " image: 0.7", " image: 0.6")
        refused = snakemake(work, "-n", "ablations", check=False)
        assert "while another Snakemake is at work here" in refused
        assert one.wait() == 0
    assert (
        read_json(work / "receipts/tiny/variants/flip-75/seed-0/pretrain.json")["spec"]["parameters"]["masking"][
            "image"
        ]
        == 0.7
    )
