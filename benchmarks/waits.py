"""Count the operators of every variant's training step, and how often it waits for its device.

    python -m benchmarks.waits

The step runs on torch's `meta` device: nothing there has values, so whatever would make the processor wait until a GPU
has computed something (`item`, `tolist`, `nonzero`, a truth value, an index by a mask, a copy back) is an error, which
names its place. What a step copies to the device after its batch is there is counted, too: such copies wait for all
that was queued before.
"""

import argparse
import json
import traceback
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.data.batch_types import PAD, Batch
from flip.plan.counting import make_batch, make_model
from flip.plan.counts import way_of_training
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun
from flip.train.work import changed, turns, vocabulary

PAIRS, DEVICE = 8, "meta"
ATEN = torch.ops.aten
INDEXING = {ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_}


class Operators(TorchDispatchMode):
    """Count the operators that run on the device while it is on, and list what they are given from main memory.

    Raises:
        RuntimeError: a mask says where tensors are put, whose number the device would be asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.copies: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        inputs, outputs = (
            [one for one in tree_leaves(some) if isinstance(one, Tensor)] for some in ((args, kwargs), found)
        )
        self.count += any(one.is_meta for one in outputs)
        if any(one.is_meta for one in outputs) and any(not one.is_meta and one.ndim for one in inputs):
            self.copies.append(f"{function}{[tuple(one.shape) for one in inputs]}")
        if function.overloadpacket in INDEXING and any(x is not None and x.dtype is torch.bool for x in args[1]):
            raise RuntimeError(f"{function}: an index by a mask")
        return found


def ways(scale: str = "tiny") -> dict[str, Params]:
    """Return the distinct training steps of a scale's variants, at a small batch, by the first variant that has it.

    Rates and ratios tell steps apart only by whether they are 0. A variant whose batches are of several types has a
    step for each.
    """
    found: dict[str, tuple[str, Params]] = {}
    for name, params in read_project("params.yaml", scale).variants.items():
        for _, one in turns(params):
            one = changed(one, "train", batch=PAIRS, batch_scale=1, micro_batch=None, compile=False)
            kind = f" ({', '.join(one.mix.shares)})" if one.mix else ""
            operators = json.loads(way_of_training(one), parse_float=lambda number: float(number) != 0)
            found.setdefault(json.dumps(operators), (name + kind, one))
    return dict(found.values())


def host_batch(params: Params) -> Batch:
    """Return a batch as the loader gives it, with captions of different lengths."""
    batch, seeded = make_batch(params, PAIRS), torch.Generator().manual_seed(0)
    for name in batch.keys() & {"images", "views"}:
        batch[name].random_(0, 256, generator=seeded)
    for name in batch.keys() & {"ids", "other_ids"}:
        lengths = torch.randint(1, params.model.tokens + 1, (PAIRS, 1), generator=seeded)
        batch[name].random_(0, vocabulary(params), generator=seeded)
        batch[name][torch.arange(params.model.tokens) >= lengths] = PAD
    return batch


def device_run(params: Params) -> TrainingRun:
    """Build a variant in training on the device."""
    # The fused optimizer asks for devices that have its kernel; on this one it computes shapes.
    known = optimizer._get_fused_kernels_supported_devices
    optimizer._get_fused_kernels_supported_devices = lambda: [*known(), DEVICE]
    try:
        no_loader: Any = SimpleNamespace()
        return TrainingRun(params, no_loader, make_model(params).to(DEVICE), 10**9, 0, ProcessGroup(device=DEVICE))
    finally:
        optimizer._get_fused_kernels_supported_devices = known


def count(params: Params) -> Operators:
    """Run a whole step, from the batch in main memory to the updated weights.

    Raises:
        Exception: what torch raises where the step waits for the device.
    """
    run = device_run(params)
    run.optimizer.zero_grad(set_to_none=True)
    batch = run.on_device(host_batch(params))
    with Operators() as found:
        run.update(run.backward(batch))
    return found


def lines() -> Iterator[str]:
    """Say of each step what it does."""
    yield f"{'step of':32} operators  copies  waits"
    for name, params in ways().items():
        try:
            found = count(params)
        except Exception as error:
            where = next(one for one in reversed(traceback.extract_tb(error.__traceback__)) if "/flip/" in one.filename)
            yield f"{name:32} waits at {where.filename}:{where.lineno} ({error})"
        else:
            yield f"{name:32} {found.count:9}  {len(found.copies):6}  {0:5}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line per step."""
    argparse.ArgumentParser(prog="python -m benchmarks.waits", description=__doc__.splitlines()[0]).parse_args(argv)
    for line in lines():
        print(line, flush=True)


if __name__ == "__main__":
    main()
