"""Several processes that train as one: which pairs each holds, and what travels between them.

The global batch is split by rows; a loss over it is a sum of the processes' shares, and so are the gradients: nothing
here takes a mean. The only file that imports torch.distributed.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from flip.model.transformer import Block, Transformer

# Who a process is: as torchrun says it, or srun.
RANK, SIZE, LOCAL = ("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS"), ("LOCAL_RANK", "SLURM_LOCALID")
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def told(names: tuple[str, str], default: int) -> int:
    """The first of the environment's variables that is set."""
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


@dataclass(frozen=True)
class World:
    """A process among those of its run."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, pairs: int) -> int:
        """Pairs of each process.

        Raises:
            ValueError: the processes do not divide the global batch.
        """
        if pairs % self.size:
            raise ValueError(
                f"train.batch x train.batch_scale = {pairs} is no multiple of the {self.size} processes; change "
                "resources.pretrain.nodes or .processes, or the batch"
            )
        return pairs // self.size

    def send(self, rows: Tensor) -> Callable[[], Tensor]:
        """Begins to gather; what this gives, to be called once, waits for [own, ...] of every process -> [own * size,
        ...], with gradients, in the order of the global batch."""
        if self.size == 1:
            return lambda: rows
        trip = Trip(self.size)
        ticket = Depart.apply(rows, trip)
        return lambda: Arrive.apply(ticket, trip)

    def gather(self, rows: Tensor) -> Tensor:
        """As `send`, at once."""
        return self.send(rows)()

    def shift(self, x: Tensor) -> Callable[[], Tensor]:
        """Begins to send x to the next process; what this gives waits for the previous one's, round a ring; equal
        shapes, no gradient."""
        if self.size == 1:
            return lambda: x
        sent, received = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        after, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        both = [dist.P2POp(dist.isend, sent, after), dist.P2POp(dist.irecv, received, before)]
        return Transfer(dist.batch_isend_irecv(both), sent, received).end

    def sum(self, x: Tensor) -> Tensor:
        return self._reduce(x, dist.ReduceOp.SUM)

    def max(self, x: Tensor) -> Tensor:
        return self._reduce(x, dist.ReduceOp.MAX)

    def _reduce(self, x: Tensor, operation) -> Tensor:
        """Elementwise over the processes; no gradient."""
        if self.size > 1:
            x = x.detach().clone()
            dist.all_reduce(x, operation)
        return x

    def logsumexp(self, x: Tensor) -> Tensor:
        """log of the sum of exp(x) over the processes, elementwise; no gradient."""
        largest = self.max(x)
        return self.sum((x - largest).exp()).log() + largest

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


class Transfer:
    """Tensors on their way between processes; both stay as they are until it ends."""

    def __init__(self, requests: list, sent: Tensor, received: Tensor):
        self.requests, self.sent, self.received = requests, sent, received

    def end(self) -> Tensor:
        """What was received. On a GPU it is the computation that waits for it, not this process."""
        for request in self.requests:
            request.wait()
        return self.received


class Trip:
    """Of rows to all processes, and of their gradients back."""

    def __init__(self, size: int):
        self.size, self.transfer = size, None

    def end(self) -> Tensor:
        transfer, self.transfer = self.transfer, None
        return transfer.end()


class Depart(torch.autograd.Function):
    """Begins to gather rows; gives a ticket [], for `Arrive`. Backward it comes after all that was computed between the
    two, as autograd goes back in the order of computation."""

    @staticmethod
    def forward(ctx, rows, trip):
        ctx.trip, rows = trip, rows.contiguous()
        everyone = rows.new_empty(trip.size * len(rows), *rows.shape[1:])
        trip.transfer = Transfer([dist.all_gather_single(everyone, rows, async_op=True)], rows, everyone)
        return rows.new_zeros(())

    @staticmethod
    def backward(ctx, _):
        return ctx.trip.end(), None


class Arrive(torch.autograd.Function):
    """Waits for the rows; the gradient of a row is the sum of those that the processes have for it."""

    @staticmethod
    def forward(ctx, ticket, trip):
        ctx.trip = trip
        return trip.end()

    @staticmethod
    def backward(ctx, gradient):
        trip, gradient = ctx.trip, gradient.contiguous()
        own = gradient.new_empty(len(gradient) // trip.size, *gradient.shape[1:])
        trip.transfer = Transfer([dist.reduce_scatter_single(own, gradient, async_op=True)], gradient, own)
        return gradient.new_zeros(()), None


def start(minutes: float) -> World:
    """Joins the processes that torchrun or srun started; one alone joins nobody. Ends with `stop`.

    A collective that takes longer than `minutes` is an error.
    """
    rank, size, local = told(RANK, 0), told(SIZE, 1), told(LOCAL, 0)
    gpus = torch.cuda.device_count()
    device = f"cuda:{local % gpus}" if gpus else "cpu"
    if gpus:
        torch.cuda.set_device(device)
    if size > 1:
        # Flags travel over gloo, so that asking for them does not wait for the GPU's queue.
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(minutes=minutes))
    return World(rank, size, device)


def stop(world: World) -> None:
    if world.size > 1:
        dist.destroy_process_group()


def add_up(_, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's exchange of gradients: their sum."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


class Replicas:
    """The model on one process, or the same on each (DDP).

    Where steps differ in what they use (`partial`), what one leaves out has no gradient, as on one process: the
    optimizer then neither moves it nor lets it decay.
    """

    def __init__(self, model: nn.Module, world: World, partial: bool = False):
        self.model = self.forward = model
        if world.size > 1:
            devices = [world.device] if world.device != "cpu" else None
            # What it says when all is used, as on pairs.
            warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
            self.forward = DistributedDataParallel(
                model, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True,
                find_unused_parameters=partial,
            )  # fmt: skip
            self.forward.register_comm_hook(None, add_up)

    def exchange(self, last: bool):
        """A context for one of several backward passes of a step; gradients travel in the last."""
        return nullcontext() if last or self.forward is self.model else self.forward.no_sync()

    def finish(self) -> None:
        """After the last backward pass of a step."""


class Shards:
    """Weights, gradients and optimizer state split over the processes (FSDP2), for towers that fill a device."""

    def __init__(self, model: nn.Module, world: World):
        self.model = self.forward = model
        self.world = world
        # The outputs are read, and never changed in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        # FSDP cannot split a number; the temperature stays whole on each process.
        self.numbers = {parameter for parameter in model.parameters() if not parameter.ndim}
        for module in model.modules():
            if isinstance(module, Block):
                fully_shard(module)
            elif isinstance(module, Transformer):
                module.whole = True  # every process has to gather a block's weights as often as the others
        fully_shard(model, ignored_params=self.numbers)
        for module in model.modules():
            if hasattr(module, "set_gradient_divide_factor"):
                module.set_gradient_divide_factor(1.0)

    def exchange(self, last: bool):
        self.model.set_requires_gradient_sync(last)
        return nullcontext()

    def finish(self) -> None:
        for number in self.numbers:
            if number.grad is not None:  # all processes use the same
                number.grad = self.world.sum(number.grad)


def get_state(model: nn.Module, optimizer) -> dict:
    """Whole weights and optimizer state in main memory, by parameter name: the same for any number of processes."""
    weights, moments = get_state_dict(model, optimizer, options=WHOLE)
    return {"model": weights, "optimizer": moments}


def set_state(model: nn.Module, optimizer, state: dict) -> None:
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=WHOLE
    )


def own_part(x: Tensor) -> Tensor:
    """What this process holds of a tensor that may be split."""
    return x.to_local() if isinstance(x, DTensor) else x
