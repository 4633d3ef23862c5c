"""Gather rows of all processes asynchronously, with gradients, so that the all-gather overlaps other work."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class PendingTransfer:
    """Hold an asynchronous transfer between processes; both tensors must stay unchanged until it ends."""

    def __init__(self, requests: list, sent: Tensor, received: Tensor):
        self.requests, self.sent, self.received = requests, sent, received

    def end(self) -> Tensor:
        """Wait for the transfer and return what was received. On a GPU it is the stream that waits, not this
        process."""
        for request in self.requests:
            request.wait()
        return self.received


class AllGather:
    """Hold the transfers of one all-gather: of rows forward, and of their gradients backward."""

    def __init__(self, size: int):
        self.size: int = size
        self.transfer: PendingTransfer | None = None

    def end(self) -> Tensor:
        """Wait for the transfer under way and return what was received."""
        transfer, self.transfer = self.transfer, None
        assert transfer is not None, "nothing is under way"
        return transfer.end()


class StartGather(torch.autograd.Function):
    """Start to gather rows [rows, ...]; return a handle [] for `WaitGather`.

    Its backward comes after that of all that was computed between the two, as autograd goes back in the order of
    computation.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gather: AllGather) -> Tensor:
        ctx.gather, rows = gather, rows.contiguous()
        everyone = rows.new_empty(gather.size * len(rows), *rows.shape[1:])
        gather.transfer = PendingTransfer([dist.all_gather_single(everyone, rows, async_op=True)], rows, everyone)
        return rows.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.gather.end(), None


class WaitGather(torch.autograd.Function):
    """Wait for the rows of all processes [size * rows, ...]; backward, start to sum each row's gradient over the
    processes."""

    @staticmethod
    def forward(ctx: Any, handle: Tensor, gather: AllGather) -> Tensor:
        ctx.gather = gather
        return gather.end()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gather, gradient = ctx.gather, gradient.contiguous()
        own = gradient.new_empty(len(gradient) // gather.size, *gradient.shape[1:])
        gather.transfer = PendingTransfer([dist.reduce_scatter_single(own, gradient, async_op=True)], gradient, own)
        return gradient.new_zeros(()), None
