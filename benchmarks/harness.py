"""Measure implementations of a computation against each other, on a machine with other load.

Each implementation (form) runs in a process of its own, as its program would run it: with its own allocator setting and
threads. The forms take turns, round by round, so that other load slows them all; the ratio of two forms is the median
of the rounds' ratios. The first run of each process is a warm-up, and the run whose memory is measured.
"""

import ctypes
import importlib
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch

from flip.device import keep_memory, use_threads

ROUNDS = 5  # timed
# Imported once, by the process that all others are forked from, which computes nothing.
LOADED = ["flip.data.torchvision_operators", "open_clip", "flip.train.step"]
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter, "children": lambda: sum(os.times()[2:4])}


class Missing(Exception):
    """Report what a comparison needs and this machine does not have."""


@dataclass(frozen=True)
class Form:
    """Describe an implementation: `build(*arguments)` returns a function that computes it once.

    build: a function of a module, so that another process can import it; keep: whether freed memory is kept
    (flip.device.keep_memory); clock: "cpu" counts seconds of the process's threads, "children" of the commands that it
    runs, "wall" wall-clock time.
    """

    build: Callable[..., Callable[[], object]]
    arguments: tuple[object, ...] = ()
    keep: bool = False
    threads: int = 1
    clock: str = "cpu"


@dataclass
class Measured:
    """Hold seconds by round, and the bytes by which the first run raised the peak memory of its process."""

    seconds: list[float] = field(default_factory=list)
    rise: int = 0


def peer(module: str) -> ModuleType:
    """Import a module of another library to compare with.

    Raises:
        Missing: it cannot be imported.
    """
    import flip.data.torchvision_operators  # noqa: F401  (before what imports torchvision)

    try:
        return importlib.import_module(module)
    except Exception as error:
        raise Missing(f"{module} cannot be imported ({error}); pip install -r envs/requirements.txt") from None


def called(package: str) -> str:
    """Return the name of a package with its version."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def same(what: str, ours: object, theirs: object, tolerance: float) -> float:
    """Return the largest difference of two results, relative to the largest value of the second.

    Raises:
        ValueError: they differ by more than the tolerance, so their times must not be compared.
    """
    one, other = (torch.as_tensor(value, dtype=torch.float64) for value in (ours, theirs))
    if one.shape != other.shape:
        raise ValueError(f"{what}: not the same; the shapes are {tuple(one.shape)} and {tuple(other.shape)}")
    apart = ((one - other).abs().max() / other.abs().max().clamp(min=1e-30)).item()
    if not apart <= tolerance:
        raise ValueError(f"{what}: not the same; they differ by {apart:.2g} of the largest value")
    return apart


def _peak() -> int:
    """Return the peak memory of this process in bytes; getrusage would include its parent's."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def peak_rise(function: Callable[[], object]) -> int:
    """Return the bytes by which a call raises the peak memory of this process, or of its GPU if it uses one."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that building has freed does not count
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _peak()
    function()
    return _peak() - before


def _serve(pipe: Connection, form: Form) -> None:
    """Build a form and run it whenever asked; on an error, send the exception as the answer."""
    try:
        if form.keep:
            keep_memory()
        run, clock = form.build(*form.arguments), CLOCKS[form.clock]
        use_threads(form.threads)  # of all libraries that this has loaded
        pipe.send(peak_rise(run))
        while pipe.recv():
            begin = clock()
            run()
            pipe.send(clock() - begin)
    except EOFError:
        pass
    except Exception as error:
        pipe.send(error)


class Process:
    """Run a form in a process of its own."""

    def __init__(self, form: Form) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there, form), daemon=True)
        self.process.start()
        there.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join(5)
        self.process.kill()
        self.process.join()

    def answer(self) -> Any:
        """Return the next answer.

        Raises:
            MemoryError: the process has ended.
            Exception: what the form raised.
        """
        try:
            found = self.pipe.recv()
        except EOFError:
            raise MemoryError("the process ended before its answer (out of memory?)") from None
        if isinstance(found, Exception):
            raise found
        return found

    def seconds(self) -> float:
        """Run the form once and return its time."""
        self.pipe.send(True)
        return self.answer()


def measure(forms: dict[str, Form], rounds: int = ROUNDS) -> dict[str, Measured]:
    """Measure time and memory of forms that take turns, every second round in reverse order."""
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        found = {name: Measured() for name in forms}
        for name, form in forms.items():
            processes[name] = stack.enter_context(Process(form))
            found[name].rise = processes[name].answer()
        for number in range(rounds):
            for name in list(forms)[:: -1 if number % 2 else 1]:
                found[name].seconds.append(processes[name].seconds())
    return found
