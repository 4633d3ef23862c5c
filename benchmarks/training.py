"""Measure the speed-up by several processes, and the cost of checkpoints, on the data of `make ablations`.

    python -m benchmarks.training processes              # 2 processes on 2 cores against 1 on 1: a minute
    python -m benchmarks.training checkpoints            # seconds that a checkpoint adds to the steps: a minute

The settings take turns, round by round; numbers are medians over rounds, with smallest and largest.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm

from flip.config.resolve import read_project
from flip.device import keep_memory
from flip.files import read_json
from flip.train.checkpoint import Checkpoints
from flip.train.process_group import ProcessGroup, start, stop
from flip.train.step import TrainingRun, build_loader, build_model


def build(options: argparse.Namespace, world: ProcessGroup) -> TrainingRun:
    """Return a training run on the data."""
    params = read_project(scale=options.scale).variants[options.variant]
    train = params.train.model_copy(update={"batch": options.batch, "batch_scale": 1})
    params = params.model_copy(update={"train": train})
    loader = build_loader(params, options.data, read_json(options.data / "manifest.json"), 0)
    return TrainingRun(
        params, loader, build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu"), 10**9, 0, world
    )


def seconds(run: TrainingRun, steps: int) -> float:
    """Return the time of some steps, after two warm-up steps."""
    batches = run.batches()
    for _ in range(2):
        run.step(next(batches))
    run.group.barrier()
    begin = time.perf_counter()
    for _ in range(steps):
        run.step(next(batches))
    run.group.barrier()
    return time.perf_counter() - begin


def process(sender: Connection, options: argparse.Namespace, rank: int, size: int, port: int) -> None:
    """Train as one of `size` processes, on a core of its own, and send the seconds."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    keep_memory()
    world = start(minutes=5)
    sender.send(seconds(build(options, world), options.steps))
    stop(world)


def together(options: argparse.Namespace, size: int) -> float:
    """Return the seconds that `size` processes, one core each, take for the same global batches."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = [context.Process(target=process, args=(sender, options, rank, size, port)) for rank in range(size)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return receiver.recv()


def processes(options: argparse.Namespace) -> None:
    """Print the speed-up of two processes over one."""
    ratios = []
    for _ in tqdm(range(options.rounds), unit="round"):
        one, two = together(options, 1), together(options, 2)
        ratios.append(one / two)
    print(f"2 processes on 2 cores / 1 on 1, global batch {options.batch}: {spread(ratios)} x")


def checkpoints(options: argparse.Namespace) -> None:
    """Print the seconds that writing a checkpoint adds to the steps meanwhile."""
    torch.set_num_threads(1)
    keep_memory()
    run, steps = build(options, ProcessGroup()), options.steps
    added: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Checkpoints(Path(folder), keep=1)
        for _ in tqdm(range(options.rounds), unit="round"):
            plain = seconds(run, steps)
            begin = time.perf_counter()
            store.save(run.seen, run.state())
            saving = time.perf_counter() - begin
            added.append(saving + seconds(run, steps) - plain)
            store.wait()
        size = sum(path.stat().st_size for path in store.there())
    share = [100 * one / 60 for one in added]
    print(f"a checkpoint of {size / 1e6:.0f} MB takes {spread(added)} s: {spread(share)} % at one per minute")


def spread(values: list[float]) -> str:
    """Return the median with the smallest and the largest value."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["processes", "checkpoints"])
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--variant", default="flip-50")
    parser.add_argument("--data", type=Path, default=Path("data/tiny"))
    parser.add_argument("--batch", type=int, default=256, help="pairs of all processes (default: 256)")
    parser.add_argument("--steps", type=int, default=20, help="per round (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    options = parser.parse_args(argv)
    {"processes": processes, "checkpoints": checkpoints}[options.what](options)


if __name__ == "__main__":
    main()
