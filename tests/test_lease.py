"""One process tree at a time makes a result, whatever is killed: a lease is waited for while any process of its tree
lives, and taken over when none does, when its job has ended, or when another host no longer touches it."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flip.provenance import lease
from tests.slurm_cluster import until

# Enters, checks that whoever was in before is gone, stays a moment, and says that it was in.
VISITOR = """
import os, sys, time
from pathlib import Path
from flip.provenance.lease import LOOK, leased, start_of
import flip.provenance.lease
flip.provenance.lease.LOOK = 0.02
with leased("results/one"):
    before = Path("inside").read_text().split() if Path("inside").exists() else []
    if before and start_of(int(before[0])) == before[1]:
        Path("both").touch()
    Path("inside").write_text(f"{os.getpid()} {start_of(os.getpid())}")
    time.sleep(0.15)
    Path("inside").unlink()
Path(f"done-{os.getpid()}").touch()
"""
# Holds the lease and starts a process that outlives it.
PARENT = """
import os, subprocess, sys, time
from flip.provenance.lease import leased
with leased("results/one") as variables:
    subprocess.Popen([sys.executable, "-c", "open('started', 'w'); import time; time.sleep(1.5); open('ended', 'w')"],
                     env=os.environ | variables)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lease, "LOOK", 0.02)
    return tmp_path


def start(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code])


def test_never_two_at_a_time_though_half_of_them_are_killed(folder):
    rng = random.Random(0)
    visitors = [start(VISITOR) for _ in range(8)]
    for victim in rng.sample(visitors, 4):
        time.sleep(rng.uniform(0.1, 0.3))
        victim.kill()
    for visitor in visitors:
        visitor.wait(timeout=60)
    assert not (folder / "both").exists()
    ended = {visitor.pid for visitor in visitors if visitor.returncode == 0}
    assert ended <= {int(path.name.split("-")[1]) for path in folder.glob("done-*")}
    assert len(ended) >= 4
    assert [path for path in (folder / lease.LEASES).iterdir() if not path.name.startswith(".")] == []


def test_what_a_killed_holder_started_is_waited_for(folder):
    holder = start(PARENT)
    until((folder / "started").exists, "the holder's child", 30)
    holder.kill()
    holder.wait()
    with lease.leased("results/one"):
        assert (folder / "ended").exists()


def elsewhere(**said) -> lease.Lease:
    """A lease that a process of another host has."""
    one = lease.Lease("results/one")
    content = one.content() | {"machine": "n7 boot", "token": "theirs", "job": None} | said
    one.path.parent.mkdir(parents=True)
    one.path.write_text(json.dumps(content))
    return one


def test_another_hosts_lease_is_waited_for_as_long_as_it_is_touched(monkeypatch):
    monkeypatch.setattr(lease, "STALE", 0.5)
    theirs, touched = elsewhere(), []

    def touch():
        for _ in range(10):
            time.sleep(0.1)
            os.utime(theirs.path)
            touched.append(time.monotonic())

    toucher = threading.Thread(target=touch)
    toucher.start()
    with lease.leased("results/one"):
        taken = time.monotonic()
    toucher.join()
    assert len(touched) == 10
    assert taken > touched[-1]


@pytest.mark.parametrize(
    ("state", "code", "over"),
    [("RUNNING", 0, False), ("COMPLETING", 0, False), ("CANCELLED", 0, True), ("", 0, True), ("", 1, False)],
)
def test_slurm_says_whether_the_job_of_another_host_has_ended(folder, monkeypatch, state, code, over):
    """By a stand-in for squeue; tests/test_slurm.py asks the real one."""
    (folder / "squeue").write_text(f"#!/bin/sh\necho {state}\nexit {code}\n")
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert lease.job_has_ended("7") == over


def test_a_job_that_is_queued_again_does_not_wait_for_itself(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    elsewhere(job="7")
    with lease.leased("results/one"):
        pass


def test_a_lease_that_was_taken_meanwhile_is_put_back():
    """Two find that a holder is gone; the second must not take the first one's new lease away."""
    theirs = elsewhere()
    gone = theirs.holder() | {"token": "gone"}
    lease.Lease("results/one").clear(gone)
    assert theirs.holder()["token"] == "theirs"


def test_workers_end_with_their_launcher(folder):
    """However torchrun ends."""
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open("saved-" + os.environ["RANK"], "w"), sys.exit(143)))
open("started-" + os.environ["RANK"], "w")
time.sleep(60)
"""
    Path("trainer.py").write_text(code)
    words = ["-m", "flip.train.launch", "--processes", "2", "--", "trainer.py"]
    with subprocess.Popen([sys.executable, *words]) as process:
        until(lambda: len(list(folder.glob("started-*"))) == 2, "both workers", 60)
        process.send_signal(signal.SIGKILL)
    until(lambda: len(list(folder.glob("saved-*"))) == 2, "the end of both", 20)
