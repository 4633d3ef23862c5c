"""Take locks that end with the process that holds them, however it ends: nothing has to be cleared by hand."""

import errno
import fcntl
import sys
from pathlib import Path
from typing import TextIO

LOCKS = Path(".flip/locks")
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


def _open(name: str) -> TextIO:
    LOCKS.mkdir(parents=True, exist_ok=True)
    return open(LOCKS / name.replace("/", "_"), "w")


def _try(lock: TextIO) -> bool:
    """Take a lock if it is free; return whether it was. A file system without locks has none that is taken."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _share(lock: TextIO) -> None:
    """Let others have the lock, too, and none alone."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _wait(lock: TextIO, why: str) -> None:
    print(f"{why}; waiting for its end", file=sys.stderr, flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)


def enter(scale: str, stale: Path, wait: bool) -> tuple[tuple[TextIO, TextIO], bool]:
    """Register a workflow that runs a scale in this folder, for as long as the returned locks are kept.

    Return the locks, and whether another workflow runs the same scale; `wait` waits for its end. If none runs in the
    folder at all, the lock files in the folder `stale` were left by one that was killed, and are deleted.
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
        _share(lock)
    return (folder, ours), busy
