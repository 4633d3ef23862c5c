"""DVC and Snakemake when something is in the way: kills, another kind of cache, a remote that speaks S3 or none at all,
an edit while jobs are at work: nothing is lost, runs twice or is written into what DVC keeps.

Everything here is real, as in test_dvc.py."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from hashlib import md5
from pathlib import Path

import pytest

from flip.files import read_json
from tests.miniature import (
    VARIANTS,
    call,
    dvc,
    edit,
    environment,
    ran,
    snakemake,
    write_params,
)
from tests.versioned import commit, is_up_to_date, reconcile

pytestmark = pytest.mark.long(4)


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


def test_a_workspace_without_models_and_two_kills(made, tmp_path):
    """`dvc repro` where nothing is trained or recorded, killed; then Snakemake, killed; then `dvc repro` ends it."""
    folder, variants = shutil.copytree(made, tmp_path / "work", symlinks=True), ("clip", "flip-50")
    for place in ("receipts/tiny/variants", "receipts/tiny/tables", "results", "tables"):
        shutil.rmtree(folder / place)
    write_params(folder, lambda tree: fewer(tree, variants))
    call(folder, "git", "init", "--quiet")
    commit(folder)
    assert kill_while_training(folder, "dvc", "repro") < len(variants)
    assert kill_while_training(folder, "snakemake", "ablations") < len(variants)
    said = dvc(folder, "repro")
    assert not {"table", "shards", "test_sets"} & {*ran(said)}
    assert ran(said).count("pretrain") < len(variants)
    is_up_to_date(folder)


def cached(folder):
    return [path for path in (folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]


def fewer(tree, variants=("clip",)):
    """A project of a few variants only."""
    tree["variants"] = {name: tree["variants"][name] for name in variants}
    tree["tables"] = {"a": tree["tables"]["a"] | {"variants": list(variants)}}
    tree["tradeoff"]["curves"] = {"mask 0%": ["clip"]}
    return tree


def test_no_job_writes_into_the_cache(work):
    """All that is recorded is made anew where it is linked to the cache, hard or symbolically; what the cache holds
    stays as named."""
    for kind, places in (
        ("hardlink", []),
        ("symlink", [f"results/tiny/{name}" for name in VARIANTS]),
    ):
        dvc(work, "config", "cache.type", kind)
        dvc(work, "checkout", "--relink", *places)
    assert (work / "tables/tiny/ablations/index.html").stat().st_nlink > 1
    assert (work / "results/tiny/clip/seed-0/weights.safetensors").is_symlink()

    def other_data(tree):
        tree["base"]["shards"]["samples_per_shard"] = 40
        tree["base"]["world"]["probe"]["coarse"] = 16
        return fewer(tree)

    write_params(work, other_data)
    assert {"test_sets", "shards", "manifest", "pretrain", "evaluate", "tables"} <= {*ran(snakemake(work, "ablations"))}
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
    give_keys(folder)


def give_keys(folder):
    """What Git does not keep of a remote, and a clone has to be told."""
    for key, value in (("access_key_id", "name"), ("secret_access_key", "secret")):
        dvc(folder, "remote", "modify", "--local", "lab", key, value)


def test_an_s3_remote_holds_what_was_pushed_and_gives_what_is_asked_for(work, s3, tmp_path):
    use(work, s3)
    commit(work, "The remote")
    assert ".dvc/config.local" not in call(work, "git", "ls-files")
    dvc(work, "push", "tables/tiny/ablations")
    sizes = [path.stat().st_size for path in (tmp_path / "store/bucket").rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < sum(path.stat().st_size for path in cached(work)) / 2
    clone, page = tmp_path / "clone", "tables/tiny/ablations/index.html"
    call(tmp_path, "git", "clone", "--quiet", str(work), str(clone))
    give_keys(clone)
    dvc(clone, "pull", "tables/tiny/ablations")
    assert (clone / page).read_bytes() == (work / page).read_bytes()
    said = dvc(clone, "pull", "results/tiny/clip", check=False)
    assert "results/tiny/clip" in said
    assert "failed" in said.lower()
    assert not (clone / "results/tiny/clip/seed-0/weights.safetensors").exists()
    dvc(work, "push", "results/tiny/clip")
    dvc(clone, "pull", "results/tiny/clip")
    reconcile(clone)
    assert "Nothing to be done" in snakemake(clone, "-n", "ablations")
    assert ".dvc/config.local" not in call(clone, "git", "ls-files", "--others", "--exclude-standard")


def test_no_remote_is_said_so(clone):
    dvc(clone, "remote", "remove", "store")
    assert "no remote" in dvc(clone, "pull", check=False).lower()


def test_a_plan_does_not_change_under_jobs_at_work(work):
    """While one Snakemake works, another cannot plan with edited parameters; with the same ones it may look."""
    edit(work, "params.yaml", " image: 0.75", " image: 0.7")
    log, words = work / "work.log", ["snakemake", "variant", "--config", "variant=flip-75"]
    with (
        open(log, "w") as output,
        subprocess.Popen(words, cwd=work, env=environment(work), stdout=output, stderr=subprocess.STDOUT) as one,
    ):
        until(lambda: "rule pretrain" in log.read_text(), one)
        snakemake(work, "-n", "ablations")
        edit(work, "params.yaml", " image: 0.7", " image: 0.6")
        refused = snakemake(work, "-n", "ablations", check=False)
        assert "while another Snakemake is at work here" in refused
        assert one.wait() == 0
    made = read_json(work / "receipts/tiny/variants/flip-75/seed-0/pretrain.json")
    assert made["spec"]["parameters"]["masking"]["image"] == 0.7
