"""Measure what each variant's training step costs: counted FLOPs, time per sample as a ratio, peak memory.

    python -m flip.train.step_cost --params specs/tiny/params/*.yaml --data data/tiny \\
        --out tables/tiny/ablations/cost.json

The variants take turns, round by round, so that a noisy machine slows them all; time is reported as the median over
rounds of the ratio to the first one. A timed step includes preparing its batch.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Params
from flip.data.pair_embeddings import PairEmbeddings
from flip.device import device_name, keep_memory, pick_device
from flip.files import read_json, write_json
from flip.provenance.unread import RUN, nested
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from flip.train.work import turns

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# Of the largest batch, in each round: one alone is too short for a ratio within 3 %.
STEPS = 2


def stand_in(params: Params, manifest: dict) -> Callable[[int], np.ndarray]:
    """Make up features as a locked image tower's, or a teacher's, for steps whose results do not count: nothing has to
    be trained first."""
    row = np.ones((1, params.embedding), np.float32)
    return lambda number: np.broadcast_to(row, (manifest["shards"][number]["samples"], params.embedding))


class Step:
    """Run one variant's training step on real data, at a batch of at most `cost.batch`."""

    def __init__(self, params: Params, data: Path, manifest: dict, device: str):
        self.batch = min(params.train.global_batch, params.cost.batch)
        self.params = params.model_copy(
            update={"train": params.train.model_copy(update={"batch": self.batch, "batch_scale": 1})}
        )
        features: Any = stand_in(params, manifest) if params.image_tower.locked else None
        rows = stand_in(params, manifest)
        given: Any = PairEmbeddings(rows, rows) if params.distillation.weight else None
        self.loader = build_loader(self.params, data, manifest, 0, None, features, device, given)
        self.data = data
        self.device = device

    def run(self) -> TrainingRun:
        assert self.loader.captions is not None
        model = build_model(self.params, self.loader.captions.tokens.tokenizer.vocabulary, 0, self.device)
        return TrainingRun(self.params, self.loader, model, 10**9, 0, ProcessGroup(device=self.device), self.data)

    def flops_per_sample(self) -> float:
        """Return FLOPs, forward and backward; a multiplication and an addition count as two.

        Attention is counted in its plain form, and blocks are not compiled: the counter does not see all that is fused.
        """
        run = self.run()
        plain = torch.compiler.set_stance("force_eager")
        with plain, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run.step(next(run.batches()))
        return counter.get_total_flops() / self.batch

    def seconds_per_sample(self, samples: int) -> float:
        """Return the mean over at least `samples` pairs, after a step that warms up."""
        run = self.run()
        batches = run.batches()
        run.step(next(batches))
        steps = -(-samples // self.batch)
        self._finish()
        begin = time.perf_counter()
        for _ in range(steps):
            run.step(next(batches))
        self._finish()
        return (time.perf_counter() - begin) / (steps * self.batch)

    def _finish(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_memory(self) -> int:
        """Return the bytes that model, optimizer and two steps need; on a CPU those of a process of its own."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._two_steps()
            return torch.cuda.max_memory_allocated()
        # Forked before any thread pool is up: the child starts with what is loaded, and counts what it adds.
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=self._send_growth, args=(sender,))
        child.start()
        sender.close()
        try:
            return receiver.recv()
        except EOFError:
            raise ValueError(
                f"variant '{self.params.variant}': two steps of {self.batch} pairs did not end (out of memory?); lower "
                "cost.batch in params.yaml"
            ) from None
        finally:
            child.join()

    def _send_growth(self, sender: "Connection") -> None:
        before = resident()
        self._two_steps()
        sender.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)

    def _two_steps(self) -> None:
        run = self.run()
        batches = run.batches()
        for _ in range(2):
            run.step(next(batches))


class Turns:
    """Run steps of several kinds (flip.train.work.turns), each with its share: what they cost on average, and the most
    memory that one needs."""

    def __init__(self, params: Params, *where: Any):
        self.steps = [(share, Step(alone, *where)) for share, alone in turns(params)]
        self.batch = self.steps[0][1].batch

    def flops_per_sample(self) -> float:
        return sum(share * step.flops_per_sample() for share, step in self.steps)

    def seconds_per_sample(self, samples: int) -> float:
        return sum(share * step.seconds_per_sample(samples) for share, step in self.steps)

    def peak_memory(self) -> int:
        return max(step.peak_memory() for _, step in self.steps)


def timed(params: Params, data: Path, manifest: dict, device: str) -> Step | Turns:
    """Return what a variant's costs are measured on."""
    kind: type[Step | Turns] = Step if len([*turns(params)]) == 1 else Turns
    return kind(params, data, manifest, device)


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def in_turns(steps: dict[str, Step | Turns], rounds: int) -> dict[str, list[float]]:
    """Return seconds per sample by name: one number per round, in which each runs over as many samples."""
    samples = STEPS * max(step.batch for step in steps.values())
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(rounds), unit="round", desc="cost"):
        for name, step in steps.items():
            seconds[name].append(step.seconds_per_sample(samples))
    return seconds


def ratios(seconds: list[float], reference: list[float]) -> list[float]:
    """Return times over those of the reference, round by round."""
    return [this / other for this, other in zip(seconds, reference, strict=True)]


def measure(steps: dict[str, Step | Turns], rounds: int) -> dict[str, dict]:
    """Measure costs by name; the first is the reference of the ratios."""
    memory = {name: step.peak_memory() for name, step in steps.items()}
    flops = {name: step.flops_per_sample() for name, step in steps.items()}
    seconds = in_turns(steps, rounds)
    reference = next(iter(seconds.values()))
    return {
        name: {
            "batch": step.batch,
            "flops_per_sample": flops[name],
            "seconds_per_sample": statistics.median(seconds[name]),
            "relative_rounds": ratios(seconds[name], reference),
            "peak_memory_bytes": memory[name],
        }
        for name, step in steps.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.train.step_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--params", nargs="+", required=True, help="frozen parameters, the reference first")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, tokenizer.json, shards")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", required=True, help="cost.json")
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        measure_all(options)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")


def measure_all(options: argparse.Namespace) -> None:
    """Measure each way of training once and write the costs of every variant."""
    variants = [load(path) for path in options.params]
    device, manifest = pick_device(), read_json(options.data / "manifest.json")
    keys = {params.variant: params.model_dump_json(exclude=nested(RUN)) for params in variants}
    steps: dict[str, Step | Turns] = {}
    for params in variants:
        key = keys[params.variant]
        steps[key] = steps.get(key) or timed(params, options.data, manifest, device)
    costs = measure(steps, variants[0].cost.rounds)
    by_variant = {name: costs[key] for name, key in keys.items()}
    facts = {"device": device_name(device), "threads": options.threads, "rounds": variants[0].cost.rounds}
    write_json(options.out, facts | {"variants": by_variant})


if __name__ == "__main__":
    main()
