"""A command that runs under another one: it is handed SIGTERM, so that it can save its work, and never left behind."""

import ctypes
import signal
import subprocess
import sys
from contextlib import contextmanager


def end_with_parent() -> None:
    """Has Linux send SIGTERM to this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@contextmanager
def child(command: list[str], env: dict | None = None):
    """The running command; SIGTERM goes to it for as long as it is in use, and its end is waited for."""
    before = end_with_parent if sys.platform == "linux" else None
    with subprocess.Popen(command, env=env, preexec_fn=before) as process:
        previous = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        try:
            yield process
        finally:
            process.wait()
            signal.signal(signal.SIGTERM, previous)


def exit_code(process: subprocess.Popen) -> int:
    """As a shell says it: 143 where SIGTERM ended the command."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
