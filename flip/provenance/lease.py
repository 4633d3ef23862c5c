"""Lease a run to one process tree, on whichever node of a cluster, for as long as any process of the tree lives.

Locks of files do not reach over nodes on every file system, and some stay when a node dies. A lease is a small file,
made at once or not at all (link), which says who has it: host, process, job of Slurm. All processes of the tree carry
its token in their environment. Whoever finds a lease waits, and takes it over as soon as its tree is gone: no process
carries its token any more (on its host), Slurm says that the job has ended, or it has not been touched for a minute.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEASES = Path(".flip/leases")  # below the project's folder, which all nodes see
TOKEN = "FLIP_LEASE"  # in the environment of all that a job starts: tokens of the leases that it lives under
BEAT = 10  # seconds between touches
STALE = 60  # seconds without one, after which the holder's host is taken for dead
LOOK = 1.0  # seconds between looks of who waits
# States of a job of Slurm in which processes of it may live.
ALIVE = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}


def machine() -> str:
    """Name what process numbers belong to: a host since it was started, or a container on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    spaces = [os.readlink("/proc/self/ns/pid")] if boot.exists() else []
    return " ".join([socket.gethostname(), *([boot.read_text().strip()] if boot.exists() else []), *spaces])


def start_of(pid: int) -> str | None:
    """Return when a process was started, in ticks since the machine was; None if none of this number lives."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else rest[18]  # field 22 of proc(5); a zombie has ended


def carries(process: Path, token: str) -> bool:
    """Return whether a process, by its folder in /proc, has the token in its environment, and has not ended."""
    try:
        return token.encode() in (process / "environ").read_bytes()
    except OSError:  # ended, or another user's
        return False


def lives_here(holder: dict) -> bool:
    """Return whether the holder, a process of this machine, or any that it started is still there."""
    if start_of(holder["pid"]) == holder["start"]:
        return True
    return any(carries(process, holder["token"]) for process in Path("/proc").glob("[0-9]*"))


def job_has_ended(job: str | None) -> bool:
    """Return whether Slurm says that a job does not run; this job, queued again, does not run beside itself."""
    if not job:
        return False
    if job == os.environ.get("SLURM_JOB_ID"):
        return True
    words = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode:
        return "Invalid job id" in done.stderr
    return not ALIVE & set(done.stdout.split())


class Lease:
    """Hold the lease of one result, or wait for it."""

    def __init__(self, name: str):
        self.path = LEASES / name.replace("/", "_")
        self.token = uuid.uuid4().hex
        self.ended = threading.Event()

    def content(self) -> dict:
        pid = os.getpid()
        return {
            "token": self.token,
            "machine": machine(),
            "pid": pid,
            "start": start_of(pid),
            "job": os.environ.get("SLURM_JOB_ID"),
        }

    def take(self) -> bool:
        """Make the file, unless there is one; return whether it is ours."""
        if self.path.exists():
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=self.path.parent, prefix=".draft-")
        with os.fdopen(handle, "w") as file:
            json.dump(self.content(), file)
        os.chmod(draft, 0o644)
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            os.unlink(draft)
        self.sweep()
        return True

    def sweep(self) -> None:
        """Delete drafts of processes that were killed over them."""
        for path in self.path.parent.glob(".*-*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 60 * STALE:
                    path.unlink()

    def holder(self) -> dict | None:
        """Return who has the lease; None: nobody does."""
        with suppress(FileNotFoundError, ValueError):
            return json.loads(self.path.read_text())
        return None

    def clear(self, holder: dict) -> None:
        """Remove the lease of a holder that is gone; one that another process took meanwhile is put back."""
        aside = self.path.with_name(f".gone-{self.token}")
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if json.loads(aside.read_text())["token"] != holder["token"]:
                with suppress(FileExistsError):
                    os.link(aside, self.path)
            os.unlink(aside)

    def is_over(self, holder: dict, quiet: float) -> bool:
        """Return whether a holder is gone; `quiet` are the seconds for which its lease was not touched."""
        if holder["machine"] == machine() and holder["start"]:
            return not lives_here(holder)
        return quiet > STALE or job_has_ended(holder["job"])

    def wait(self) -> None:
        """Take the lease, at the latest when its holder is gone."""
        touched, since, announced = 0.0, time.monotonic(), False
        while not self.take():
            holder = self.holder()
            with suppress(FileNotFoundError):
                if (now := self.path.stat().st_mtime) != touched:  # clocks of hosts differ: a change is what counts
                    touched, since = now, time.monotonic()
            if holder and self.is_over(holder, time.monotonic() - since):
                self.clear(holder)
                continue
            if holder and not announced:
                where = f"process {holder['pid']} on {holder['machine'].split()[0]}"
                print(f"{self.path.name}: {where} is making it; waiting for its end", file=sys.stderr, flush=True)
                announced = True
            time.sleep(LOOK)

    def beat(self) -> None:
        """Touch the lease until it is given back; somebody else's is left alone."""
        while not self.ended.wait(BEAT):
            holder = self.holder()
            if holder and holder["token"] == self.token:
                with suppress(OSError):
                    os.utime(self.path)

    def give_back(self) -> None:
        self.ended.set()
        holder = self.holder()
        if holder and holder["token"] == self.token:
            self.path.unlink(missing_ok=True)


@contextmanager
def leased(name: str) -> Iterator[dict[str, str]]:
    """Wait until no other process tree, on any node, makes what has this name, and keep others from it in the block.

    Gives the variables that whatever is started in the block must have in its environment.
    """
    lease = Lease(name)
    lease.wait()
    threading.Thread(target=lease.beat, daemon=True).start()
    try:
        yield {TOKEN: " ".join(filter(None, [os.environ.get(TOKEN), lease.token]))}
    finally:
        lease.give_back()
