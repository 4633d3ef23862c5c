"""Locks that end with the process that holds them, however it ends: nothing is left to be cleared by hand."""

import fcntl
import sys
from contextlib import contextmanager
from pathlib import Path

LOCKS = Path(".flip/locks")


def _open(name: str):
    LOCKS.mkdir(parents=True, exist_ok=True)
    return open(LOCKS / name.replace("/", "_"), "w")


def _try(lock) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(lock, why: str) -> None:
    print(f"{why}; waiting for its end", file=sys.stderr, flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)


@contextmanager
def alone(out):
    """Waits until no other process makes the same file."""
    with _open(str(out)) as lock:
        if not _try(lock):
            _wait(lock, f"{out}: another process is making it")
        yield


def enter(stale: Path, wait: bool):
    """Says that a workflow is at work in this folder, for as long as the lock that is returned is kept.

    Returns the lock, and whether another workflow is at work too.

    If none was, locks in `stale` are those of one that was killed, and go. One that is at work is waited for with
    `wait`; without, the workflow's own locks have the last word on whether two can work side by side.
    """
    lock = _open("workflow")
    alone_here = _try(lock)
    if wait and not alone_here:
        _wait(lock, "another Snakemake is at work in this folder")
    if wait or alone_here:
        for path in stale.glob("*.lock"):
            path.unlink(missing_ok=True)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock, not (wait or alone_here)
