"""On a real Slurm that keeps accounts and enforces limits, with names and a memory unlike those of tests/test_slurm.py:
what it would refuse is said before any job, a line each; what passes by itself is waited for; and a workflow outlives
silence of the controller and of the database, and a cancelled job that only the database remembers."""

import os
import re
import subprocess
import sys
import time

import pytest

from flip.plan import cluster, nodes, slurm
from tests.miniature import ROOT, copy_workflow, edit, environment, write_params
from tests.slurm_cluster import SOON, STRICT, Unavailable, succeeds, until
from tests.slurm_cluster import cluster as real
from tests.slurm_cluster import slurm as ask
from tests.test_slurm import slower

pytestmark = [pytest.mark.slurm, pytest.mark.long(4)]
ACCOUNTS = (
    ("qos", "short", "MaxWall=20", "MaxSubmitJobsPerUser=7", "MaxTRESPerJob=gres/gpu=2,mem=6G", "GrpTRES=cpu=6"),
    ("qos", "theirs"),
    ("account", "lab", "teaching"),
    ("user", "root", "account=lab", "DefaultAccount=lab", "QOS=normal,short", "DefaultQOS=normal"),
    ("user", "root", "account=teaching", "MaxSubmitJobs=1", "MaxWall=90"),
)
SITE = {"SBATCH_PARTITION": "cpu-long", "SBATCH_GPU_PARTITION": "accelerated", "SBATCH_ACCOUNT": "lab"}
CPU = slurm.Request("table", minutes=60, memory_mb=4000, cores=4, partition="cpu-long", account="lab")
GPU = slurm.Request("pretrain", minutes=30, memory_mb=8000, cores=8, gpus=4, partition="accelerated", account="lab")


@pytest.fixture(scope="session")
def strict():
    if " " in sys.executable:
        pytest.skip("Snakemake starts jobs with the interpreter's path as it is, and it has a space")
    try:
        with real(STRICT) as one:
            for words in ACCOUNTS:
                ask("sacctmgr", "--immediate", "add", *words)
            yield one
    except Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture
def folder(tmp_path):
    write_params(copy_workflow(tmp_path), slower)
    return tmp_path


def changed(request, **values):
    return slurm.Request(**vars(request) | values)


def test_what_fits_is_not_complained_of(strict):
    assert cluster.faults(slurm.Cluster(), [CPU, GPU], jobs=100) == []


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (changed(CPU, partition="cpu"), "partition 'cpu': there is none of this name; there are: cpu-long, accel"),
        (changed(CPU, partition=None), "no partition: the cluster has no default"),
        (changed(CPU, partition="closed"), r"partition 'closed': takes no jobs (DRAIN)"),
        (changed(CPU, account="labs"), "account 'labs': not one of root's, which are: lab, root, teaching"),
        (changed(CPU, minutes=480), "minutes = 480: partition 'cpu-long' allows 120"),
        (changed(CPU, minutes=100, account="teaching"), "minutes = 100: account 'teaching' allows 90"),
        (changed(GPU, gpus=8), "1 x (8 cores, 8000 MB, 8 GPUs): 0 of the 1 nodes of partition 'accelerated' have that"),
        (changed(GPU, nodes=2), "2 x (8 cores, 8000 MB, 4 GPUs): 1 of the 1 nodes of partition 'accelerated' have"),
        (changed(CPU, memory_mb=64000), "the most of each is 8 cores, 16000 MB, 4 GPUs"),
        (changed(GPU, constraint="a100"), "constraint 'a100': a feature of no node of partition 'accelerated'"),
        (changed(CPU, qos="theirs"), "QOS 'theirs': not one of root's with this account, which are: normal, short"),
        (changed(CPU, minutes=30, qos="short"), "minutes = 30: QOS 'short' allows 20"),
        (changed(GPU, minutes=9, memory_mb=10, cores=1, qos="short"), "gres/gpu = 4: QOS 'short' allows a job 2;"),
        (changed(CPU, minutes=9, memory_mb=7000, qos="short"), "mem = 7000: QOS 'short' allows a job 6144;"),
        (changed(CPU, minutes=9, cores=8, qos="short"), "cpu = 8: QOS 'short' allows a job 6;"),
        # What only sbatch knows: the partition denies this account.
        (changed(GPU, account="teaching"), "Invalid account or account/partition combination specified"),
    ],
)  # fmt: skip
def test_what_would_be_refused_or_wait_for_ever_is_a_line(strict, request_, fault):
    [found] = cluster.faults(slurm.Cluster(), [request_], jobs=1)
    assert fault in found
    assert found.startswith(f"{request_.name}: ")


def test_the_doctor_looks_at_the_cluster_before_there_is_anything_to_run(strict):
    words = [sys.executable, "-m", "flip", "doctor", "--scale", "tiny", "--profile", "slurm"]
    done = subprocess.run(words, env=os.environ | SITE, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    wrong = SITE | {"SBATCH_PARTITION": "cpu"}
    done = subprocess.run(words, env=os.environ | wrong, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "data, pretrain, evaluate: partition 'cpu': there is none of this name" in done.stderr


@pytest.fixture
def without_folder(strict, tmp_path):
    """A node, the only one of its partition, on which another folder lies in the place of this one."""
    strict.crash("c2")
    hide = 'mount -t tmpfs none "$0" && exec "$@"'
    strict.start_node("c2", "unshare", "--mount", "--propagation=private", "sh", "-c", hide, str(tmp_path))
    strict.wait_for_nodes()
    yield
    strict.crash("c2")
    strict.start_node("c2")
    strict.wait_for_nodes()


def test_a_folder_that_nodes_do_not_mount_is_a_line(strict, without_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = changed(GPU, gpus=2)
    (fault,), unknown = nodes.look([CPU, changed(CPU, constraint="a100"), GPU, other], late=0.5)
    assert fault.startswith(f"partition 'accelerated': its nodes do not see {tmp_path}, or {sys.executable}, as this")
    assert [line.startswith("sbatch: ") and "feature" in line for line in unknown] == [True]
    assert [*nodes.FOLDER.iterdir()] == []


def test_a_partition_that_is_busy_is_not_known(strict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    busy = ask(
        "sbatch", "--parsable", "--partition=accelerated", "--exclusive", "--output=/dev/null", "--wrap=sleep 99"
    )
    until(lambda: ask("squeue", "--noheader", f"--jobs={busy}", "--format=%T") == "RUNNING", "the job")
    assert nodes.look([GPU], late=1, busy=0) == ([], ["partition 'accelerated': no node was free for 0 s"])
    ask("scancel", busy)


def test_limits_of_submissions_are_known(strict):
    [found] = cluster.faults(slurm.Cluster(), [changed(CPU, account="teaching")], jobs=100)
    assert found == "jobs = 100: root may have 1 at a time (account 'teaching'); say --jobs 1, or less"
    [found] = cluster.faults(slurm.Cluster(), [changed(CPU, minutes=9, qos="short"), GPU], jobs=100)
    assert found == "jobs = 100: root may have 7 at a time (QOS 'short'); say --jobs 7, or less"


def test_status_comes_from_where_it_is_remembered(strict):
    assert slurm.Cluster(seconds=5).status_command == "squeue"
    assert slurm.Cluster(seconds=20).status_command == "sacct"  # MinJobAge is 30 s


def test_a_memory_too_short_without_accounting_is_said():
    one = slurm.Cluster(seconds=20)
    one.settings = {"MinJobAge": "30 sec", "AccountingStorageType": "accounting_storage/none", "MaxJobCount": "10000"}
    [found] = cluster.site_faults(one, 100, [])
    assert found.endswith("might miss the end of a job; say --seconds-between-status-checks 10")


def test_without_slurm_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    [found] = cluster.faults(slurm.Cluster(), [CPU], jobs=1)
    assert found.startswith("sbatch, squeue, scancel, scontrol: no such commands here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("02:00:00", 120), ("1-00:00:00", 1440), ("30:00", 30), ("UNLIMITED", float("inf")), ("", float("inf"))],
)
def test_times_of_slurm_are_minutes(text, expected):
    assert slurm.minutes(text) == expected


def test_gpus_are_counted_over_their_kinds():
    found = [slurm.count_gpus(text) for text in ("gpu:4", "gpu:h100:8(S:0-1)", "gpu:a100:2,gpu:v100:1", "(null)")]
    assert found == [4, 8, 3, 0]


def submitted(*words) -> subprocess.Popen:
    """sbatch as Snakemake calls it."""
    path = f"{ROOT}/slurm/bin:{os.environ['PATH']}"
    command = ["sbatch", "--parsable", "--output=/dev/null", "--partition=cpu-long", *words]
    return subprocess.Popen(command, env=os.environ | {"PATH": path}, stdout=-1, stderr=-1, text=True)


def test_a_submission_waits_for_a_limit_that_passes_and_for_no_other(strict):
    first, _ = submitted("--account=teaching", "--wrap=sleep 60").communicate()
    second = submitted("--account=teaching", "--wrap=true")
    time.sleep(1)
    assert second.poll() is None
    ask("scancel", first.strip())
    assert second.communicate()[0].strip().isdigit()
    out, said = submitted("--account=nobody", "--wrap=true").communicate()
    assert out == ""
    assert "Invalid account" in said


def test_a_workflow_that_the_cluster_would_refuse_does_not_begin(strict, folder):
    words = ["snakemake", "--profile", "slurm", "receipts/tiny/data/table.json"]
    env = environment(folder) | SITE | {"SBATCH_PARTITION": "cpu"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("partition 'cpu': there is none of this name") == 1
    assert "submitted" not in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 60


def jobs(state):
    """Those of the cluster in a state, by rule."""
    lines = ask("squeue", "--noheader", f"--states={state}", "--format=%k %i").splitlines()
    return {words.split("_wildcards")[0].removeprefix("rule_"): number for words, number in map(str.split, lines)}


def test_what_no_retry_mends_is_tried_once(strict, folder):
    """A job whose code has changed since it was submitted, and one that sbatch refuses after others have run."""
    log, partition = folder / "log", "PartitionName=cpu-long"
    targets = ["receipts/tiny/data/download/0000.json", "receipts/tiny/data/tests/fine.json"]
    ask("scontrol", "update", partition, "State=DOWN")
    with (
        open(log, "w") as file,
        subprocess.Popen(
            ["snakemake", "--profile", "slurm", *SOON, *targets],
            cwd=folder,
            env=environment(folder) | SITE,
            stdout=file,
            stderr=file,
        ) as process,
    ):
        waiting = until(lambda: process.poll() or (len(found := jobs("PENDING")) == 2 and found), "two jobs")
        ask("scontrol", "hold", waiting["test_sets"])
        edit(folder, "flip/synthetic/testsets.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ")
        ask("scontrol", "update", partition, "State=UP")
        until(lambda: "table" in jobs("RUNNING"), "the table's job")
        ask("scontrol", "update", partition, "AllowAccounts=teaching")
        until(lambda: "sbatch failed" in log.read_text() or process.poll() is not None, "the refusal")
        ask("scontrol", "update", partition, "AllowAccounts=ALL")
        ask("scontrol", "release", waiting["test_sets"])
        process.wait(timeout=300)
    said = log.read_text()
    assert process.returncode == 1
    assert "Trying to restart" not in said
    assert {*re.findall(r"^Error in rule (\w+):", said, re.MULTILINE)} == {"download", "test_sets"}
    assert "have changed since this job was planned" in said


def test_a_workflow_outlives_silence_and_a_job_that_was_cancelled(strict, folder):
    """The controller is away while jobs are to be submitted, then the database."""
    targets = ["receipts/tiny/data/table.json", "receipts/tiny/data/tests/fine.json"]
    words = ["snakemake", "--profile", "slurm", *SOON, "--seconds-between-status-checks=11", *targets]
    log = folder / "log"
    with (
        open(log, "w") as file,
        subprocess.Popen(words, cwd=folder, env=environment(folder) | SITE, stdout=file, stderr=file) as process,
    ):
        until(lambda: "Execute 2 jobs" in log.read_text() or process.poll() is not None, "submissions")
        strict.stop("slurmctld")
        time.sleep(8)
        strict.start_controller()
        until(lambda: succeeds("squeue"), "the controller")
        job = until(lambda: ask("squeue", "--noheader", "--format=%i").split(), "a job")[0]
        ask("scancel", job)
        strict.stop("slurmdbd")
        time.sleep(5)
        strict.start_accounts()
        process.wait(timeout=300)
    said = log.read_text()
    assert process.returncode == 0, said
    assert all((folder / name).exists() for name in targets)
    assert said.count("SLURM status is: 'CANCELLED'") == 1
