"""End a run that would otherwise go on in vain: on values that are not finite, or on steps that never end."""

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import torch
from torch import Tensor

from flip.device import local_part
from flip.files import write_json

STOP_FILE = "FLIP_STOP_FILE"
INTERRUPTED = 143  # what the shell reports of a process that SIGTERM ended


class Interrupted(Exception):
    """Say that the run was asked to stop; a checkpoint is written."""


class Stop:
    """Hold whether this process was asked to stop: by SIGTERM, or by a file whose name the environment gives.

    A launcher uses the file, since torchrun keeps signals to itself.
    """

    def __init__(self) -> None:
        self.signalled = False
        self.file = os.environ.get(STOP_FILE)
        self.looked = 0.0

    def __bool__(self) -> bool:
        now = time.monotonic()
        if self.file and now - self.looked > 1:  # a second: the file may lie on a network
            self.looked = now
            self.signalled = self.signalled or os.path.exists(self.file)
        return self.signalled

    def on_signal(self, *_: object) -> None:
        """Handle SIGTERM."""
        self.signalled = True


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Give a Stop that handles SIGTERM while the block runs."""
    stop = Stop()
    previous = signal.signal(signal.SIGTERM, stop.on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, previous)


def not_finite(losses: dict[str, Tensor], parameters: Iterable[Tensor]) -> Tensor:
    """Return 1 where a loss of a step or a gradient is not finite, else 0: float32 [] on the device, without
    synchronizing."""
    gradients = [local_part(parameter.grad) for parameter in parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients)).double()
    return 1 - (sum(losses.values()) + norms.sum()).isfinite().float()


def record_skipped(seen: int, losses: dict[str, float], keys: list[str], path: Path, count: int, allowed: int) -> None:
    """Record a step whose loss or gradient is not finite, and its pairs, in `path`; `count` were skipped before.

    Raises:
        ValueError: more than `allowed` steps are skipped.
    """
    write_json(path, {"samples": seen, "losses": {name: str(x) for name, x in losses.items()}, "pairs": keys})
    message = f"the loss or a gradient is not finite after {seen} samples ({losses}); the batch's pairs are in {path}"
    if count >= allowed:
        raise ValueError(
            f"{message}; train.skip_nonfinite = {allowed} such steps may be left out. Lower train.base_lr, or look at "
            "the images; started again, training resumes from the last checkpoint"
        )
    print(f"{message}; the step is left out (number {count + 1} of at most {allowed})", file=sys.stderr)


class Watchdog:
    """End the process when no step ends for `minutes`, and dump the stack of each thread; it runs in a thread of its
    own.

    Ending frees the other processes and the job: whatever started it starts it again, and it resumes from the
    checkpoint.
    """

    def __init__(self, minutes: float):
        self.seconds = 60 * minutes
        self.doing, self.since = "the first step", time.monotonic()
        self.over = Event()
        self.thread = Thread(target=self._watch, daemon=True, name="watchdog")

    def __enter__(self) -> "Watchdog":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def begin(self, doing: str) -> None:
        """Note that something ended, and that `doing` begins."""
        self.doing, self.since = doing, time.monotonic()

    def _watch(self) -> None:
        while not self.over.wait(min(self.seconds / 4, 5)):
            waited = time.monotonic() - self.since
            if waited > self.seconds:
                self._end(waited)

    def _end(self, waited: float) -> None:
        print(
            f"nothing has happened for {waited:.0f} s in: {self.doing}. Where each thread stands follows. Started "
            "again, training resumes from the last checkpoint; train.stall_minutes says how long to wait.",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(all_threads=True)
        os._exit(1)
