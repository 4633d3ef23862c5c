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


def enter(scale: str, stale: Path, wait: bool):
    """Says that a workflow is at work on a scale in this folder, for as long as the locks that are returned are kept.

    Returns them, and whether another one is at work on the same scale; `wait` waits for its end. If none is at work in
    the folder at all, locks in `stale` are those of one that was killed, and go.
    """
    folder, ours = _open("workflow"), _open(f"workflow {scale}")
    busy = not _try(ours)
    if busy and wait:
        _wait(ours, f"another Snakemake is at work on scale '{scale}' in this folder")
        busy = False
    if _try(folder):
        for path in stale.glob("*.lock"):
            path.unlink(missing_ok=True)
    for lock in (folder, ours):
        fcntl.flock(lock, fcntl.LOCK_SH)
    return (folder, ours), busy
