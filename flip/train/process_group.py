"""Join the processes of a run: split the global batch among them, and exchange tensors.

The global batch is split by rows; a loss over it is a sum of the processes' shares, and so are the gradients: nothing
here takes a mean.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from flip.train.async_gather import AllGather, PendingTransfer, StartGather, WaitGather

# Who a process is: as torchrun says it, or srun.
RANK, SIZE, LOCAL = ("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS"), ("LOCAL_RANK", "SLURM_LOCALID")


def env_int(names: tuple[str, str], default: int) -> int:
    """Read an integer from the first of the environment's variables that is set."""
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


@dataclass(frozen=True)
class ProcessGroup:
    """Describe a process among those of its run, and the collectives over them."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Tell whether it is the one that writes files."""
        return self.rank == 0

    def share(self, pairs: int) -> int:
        """Return the number of pairs of each process.

        Raises:
            ValueError: the processes do not divide the global batch.
        """
        if pairs % self.size:
            raise ValueError(
                f"train.batch x train.batch_scale = {pairs} is no multiple of the {self.size} processes; change "
                "resources.pretrain.nodes or .processes, or the batch"
            )
        return pairs // self.size

    def all_gather_async(self, rows: Tensor) -> Callable[[], Tensor]:
        """Start an all-gather, with gradients, of rows [rows, ...] in the order of the global batch.

        Returns a function, to be called once, that waits for the rows of every process [size * rows, ...].
        """
        if self.size == 1:
            return lambda: rows
        gather = AllGather(self.size)
        handle = StartGather.apply(rows, gather)
        return lambda: WaitGather.apply(handle, gather)

    def all_gather(self, rows: Tensor) -> Tensor:
        """Gather the rows [rows, ...] of all processes, with gradients: [size * rows, ...]."""
        return self.all_gather_async(rows)()

    def shift(self, x: Tensor) -> Callable[[], Tensor]:
        """Start to send x to the next process of a ring; shapes must be equal, and there is no gradient.

        Returns a function that waits for the tensor of the previous process, of the shape of x.
        """
        if self.size == 1:
            return lambda: x
        sent, received = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        after, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        both = [dist.P2POp(dist.isend, sent, after), dist.P2POp(dist.irecv, received, before)]
        return PendingTransfer(dist.batch_isend_irecv(both), sent, received).end

    def sum(self, x: Tensor) -> Tensor:
        """Sum elementwise over the processes, without gradient; the shape stays."""
        return self._reduce(x, dist.ReduceOp.SUM)

    def max(self, x: Tensor) -> Tensor:
        """Take the maximum elementwise over the processes, without gradient; the shape stays."""
        return self._reduce(x, dist.ReduceOp.MAX)

    def _reduce(self, x: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            x = x.detach().clone()
            dist.all_reduce(x, operation)
        return x

    def logsumexp(self, x: Tensor) -> Tensor:
        """Compute the log-sum-exp over the processes elementwise, without gradient; the shape stays."""
        largest = self.max(x)
        return self.sum((x - largest).exp()).log() + largest

    def barrier(self) -> None:
        """Wait until all processes have called it."""
        if self.size > 1:
            dist.barrier()


def start(minutes: float) -> ProcessGroup:
    """Join the processes that torchrun or srun started, if there are several; end with `stop`.

    A collective that takes longer than `minutes` raises an error.
    """
    rank, size, local = env_int(RANK, 0), env_int(SIZE, 1), env_int(LOCAL, 0)
    gpus = torch.cuda.device_count()
    device = f"cuda:{local % gpus}" if gpus else "cpu"
    if gpus:
        torch.cuda.set_device(device)
    if size > 1:
        # Flags travel over gloo, so that asking for them does not wait for the GPU's queue.
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(minutes=minutes))
    return ProcessGroup(rank, size, device)


def stop(group: ProcessGroup) -> None:
    """Leave the process group."""
    if group.size > 1:
        dist.destroy_process_group()
