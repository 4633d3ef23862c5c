"""Run a command under this process, so that none is left behind.

In the foreground it takes this process's place and is asked to stop, so that it can save its work; in the background it
serves this process and is killed at its end.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Make Linux send a signal to this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG


@contextmanager
def foreground(command: list[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """Give the running command; SIGTERM is forwarded to it within the block, and its end is waited for."""
    with subprocess.Popen(command, env=env, preexec_fn=end_with_parent) as process:
        previous = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        try:
            yield process
        finally:
            process.wait()
            signal.signal(signal.SIGTERM, previous)


def exit_code(process: subprocess.Popen) -> int:
    """Return the exit code as a shell reports it: 143 where SIGTERM ended the command."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


@contextmanager
def background(code: str, options: dict, **popen: Any) -> Iterator[subprocess.Popen]:
    """Give a Python process that runs `code`, which begins with `given_options`; it ends with this one at the latest.

    Its children end too, also where it ended before them: it is the leader of a process group of its own.
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True, **popen) as process:
        assert process.stdin is not None  # a pipe
        try:
            process.stdin.write(json.dumps(options) + "\n")
            process.stdin.flush()
            yield process
        finally:
            with suppress(ProcessLookupError):  # none is left
                os.killpg(process.pid, signal.SIGKILL)


def given_options() -> dict:
    """Read what `background` hands over, and have this process group killed as soon as the other process ends, which
    closes the pipe that is standard input."""

    def wait() -> None:
        sys.stdin.read()
        os.killpg(0, signal.SIGKILL)

    options = json.loads(sys.stdin.readline())
    threading.Thread(target=wait, daemon=True).start()
    return options
