"""Gather rows of all processes, with gradients, while other work goes on."""

import torch
import torch.distributed as dist
from torch import Tensor


class Transfer:
    """Hold tensors on their way between processes; both stay as they are until it ends."""

    def __init__(self, requests: list, sent: Tensor, received: Tensor):
        self.requests, self.sent, self.received = requests, sent, received

    def end(self) -> Tensor:
        """Return what was received. On a GPU it is the computation that waits for it, not this process."""
        for request in self.requests:
            request.wait()
        return self.received


class AllGather:
    """Hold the transfer of rows to all processes, and of their gradients back."""

    def __init__(self, size: int):
        self.size: int = size
        self.transfer: Transfer | None = None

    def end(self) -> Tensor:
        """Wait for what is on its way."""
        transfer, self.transfer = self.transfer, None
        return transfer.end()


class StartGather(torch.autograd.Function):
    """Begin to gather rows; return a handle [], for `WaitGather`. Backward it comes after all that was computed
    between the
    two, as autograd goes back in the order of computation."""

    @staticmethod
    def forward(ctx, rows, gather):
        ctx.gather, rows = gather, rows.contiguous()
        everyone = rows.new_empty(gather.size * len(rows), *rows.shape[1:])
        gather.transfer = Transfer([dist.all_gather_single(everyone, rows, async_op=True)], rows, everyone)
        return rows.new_zeros(())

    @staticmethod
    def backward(ctx, _):
        return ctx.gather.end(), None


class WaitGather(torch.autograd.Function):
    """Wait for the rows; the gradient of a row is the sum of those that the processes have for it."""

    @staticmethod
    def forward(ctx, handle, gather):
        ctx.gather = gather
        return gather.end()

    @staticmethod
    def backward(ctx, gradient):
        gather, gradient = ctx.gather, gradient.contiguous()
        own = gradient.new_empty(len(gradient) // gather.size, *gradient.shape[1:])
        gather.transfer = Transfer([dist.reduce_scatter_single(own, gradient, async_op=True)], gradient, own)
        return gradient.new_zeros(()), None
