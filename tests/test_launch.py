"""One command starts any number of processes: each finds itself and the others, SIGTERM reaches it, and several nodes
outside a cluster are refused; ahead of a job's time limit the trainer is asked to stop, and the job queued again."""

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from tests.slurm_cluster import until

TELLS = """
import os
from pathlib import Path
who = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
Path("who-" + "-".join(who)).touch()
"""
SAVES = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: (Path("saved").touch(), sys.exit(143)))
Path("started").touch()
while not os.path.exists(os.environ.get("FLIP_STOP_FILE", "no file")):
    time.sleep(0.05)
Path("saved").touch()
sys.exit(143)
"""
# A stand-in for scontrol: it says when the job ends, and notes what it is asked for.
SCONTROL = """#!/bin/sh
echo "$@" >> asked
case "$1" in
  requeue) kill -TERM $PPID ;;
  *) echo "JobId=7 JobState={state} EndTime={end} BatchHost=n1" ;;
esac
"""


def launch(folder, trainer, *words, **variables):
    (folder / "trainer.py").write_text(trainer)
    command = [sys.executable, "-m", "flip.train.launch", *words, "--", "trainer.py"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    return subprocess.Popen(command, cwd=folder, env=outside | variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("processes", "who"), [(1, {"0-1-0"}), (2, {"0-2-0", "1-2-1"})])
def test_each_process_of_a_node_finds_itself(tmp_path, processes, who):
    """Whatever tasks a job of Slurm has besides."""
    with launch(tmp_path, TELLS, "--processes", str(processes), SLURM_NTASKS="8") as process:
        assert process.wait() == 0
    assert {path.name for path in tmp_path.glob("who-*")} == {f"who-{one}" for one in who}


def test_several_nodes_need_a_cluster(tmp_path):
    with launch(tmp_path, TELLS, "--nodes", "2") as process:
        said = process.communicate()[1]
    assert process.returncode == 1
    assert "--nodes 2: several nodes are to be had in a job of Slurm alone" in said


def test_starting_imports_no_torch():
    code = "import sys, flip.train.launch; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def job(tmp_path):
    """job(seconds): the environment of a job of Slurm that ends in as many seconds."""

    def made(seconds, state="RUNNING"):
        end = (datetime.now() + timedelta(seconds=seconds)).isoformat(timespec="seconds")
        (tmp_path / "scontrol").write_text(SCONTROL.format(end=end, state=state))
        (tmp_path / "scontrol").chmod(0o755)
        return {"SLURM_JOB_ID": "7", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    return made


def test_ahead_of_the_limit_the_trainer_stops_and_the_job_is_queued_again(tmp_path, job):
    with launch(tmp_path, SAVES, "--stop-seconds", "58", **job(60)) as process:
        assert process.wait() == 143
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "requeue 7"
    assert not list((tmp_path / ".flip/stop").iterdir())


def test_a_job_that_ends_before_its_limit_is_not_queued_again(tmp_path, job):
    with launch(tmp_path, "raise SystemExit(3)", "--stop-seconds", "10", **job(60)) as process:
        assert process.wait() == 3
    assert "requeue" not in (tmp_path / "asked").read_text()


def test_a_job_that_was_cancelled_is_not_queued_again(tmp_path, job):
    with launch(tmp_path, SAVES, "--stop-seconds", "60", **job(60, state="CANCELLED")) as process:
        assert process.wait() == 143
    assert (tmp_path / "saved").exists()
    assert "requeue" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("inside", [True, False])
def test_sigterm_reaches_the_trainer(tmp_path, job, inside):
    variables = job(3600) if inside else {}
    with launch(tmp_path, SAVES, **variables) as process:
        until(lambda: (tmp_path / "started").exists(), "the trainer")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert (tmp_path / "saved").exists()
    assert not inside or "requeue" not in (tmp_path / "asked").read_text()


def test_a_limit_that_was_moved_is_looked_at_again(tmp_path, job, monkeypatch):
    from flip.train import launch as module

    monkeypatch.setenv("PATH", job(3600)["PATH"])
    monkeypatch.chdir(tmp_path)
    assert 3500 < module.seconds_left("7") < 3601
    job(60)
    assert module.seconds_left("7") < 61
    (tmp_path / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert module.seconds_left("7") == float("inf")
