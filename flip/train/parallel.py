"""Train one model on several processes: replicated (DDP), or with sharded weights (FSDP2); and collect its state.

What shards and collects is imported where it is used: it takes half as long to import as torch itself.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flip.model.decoder import DecoderBlock
from flip.model.transformer import Block, Transformer
from flip.train.process_group import ProcessGroup


def sum_gradients(_: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Reduce gradients for DDP as their sum over the processes (communication hook)."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


class DDPModel:
    """Hold the model on one process, or a replica on each (DDP).

    Where steps differ in which parameters they use (`partial`), an unused parameter has no gradient, as on one process:
    the optimizer then neither moves nor decays it.
    """

    def __init__(self, model: nn.Module, group: ProcessGroup, partial: bool = False):
        self.model = model
        self.forward: Any = model
        if group.size > 1:
            devices = [group.device] if group.device != "cpu" else None
            # What it says when all is used, as on pairs.
            warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
            self.forward = DistributedDataParallel(
                model, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True,
                find_unused_parameters=partial,
            )  # fmt: skip
            self.forward.register_comm_hook(None, sum_gradients)

    def exchange(self, last: bool) -> AbstractContextManager:
        """Return a context for one of several backward passes of a step; gradients are reduced in the last."""
        return nullcontext() if last or self.forward is self.model else self.forward.no_sync()

    def finish(self) -> None:
        """End the last backward pass of a step."""


class FSDPModel:
    """Shard weights, gradients and optimizer state over the processes (FSDP2), for towers that fill a device."""

    def __init__(self, model: nn.Module, group: ProcessGroup):
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        self.model: Any = model
        self.forward = model
        self.group = group
        # The outputs are read, and never changed in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        # FSDP cannot split a number; the temperature is replicated on each process.
        self.numbers = {parameter for parameter in model.parameters() if not parameter.ndim}
        for module in model.modules():
            if isinstance(module, Block | DecoderBlock):
                fully_shard(module)
            if isinstance(module, Block):
                for method in ("merge", "look"):
                    register_fsdp_forward_method(module, method)
            elif isinstance(module, Transformer):
                module.chunk_on_cpu = False  # every process has to gather a block's weights as often as the others
        fully_shard(model, ignored_params=self.numbers)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)

    def exchange(self, last: bool) -> AbstractContextManager:
        """Return a context for one of several backward passes of a step; gradients are reduced in the last."""
        self.model.set_requires_gradient_sync(last)
        return nullcontext()

    def finish(self) -> None:
        """End the last backward pass of a step: sum the gradients of scalars, which are not sharded."""
        for number in self.numbers:
            if number.grad is not None:  # all processes use the same
                number.grad = self.group.sum(number.grad)


def get_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Collect all weights and optimizer state in main memory, by parameter name: the same for any number of
    processes."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, moments = get_state_dict(model, optimizer, options=full)
    return {"model": weights, "optimizer": moments}


def set_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Load what `get_state` returned into model and optimizer, on any number of processes."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    full = StateDictOptions(full_state_dict=True, cpu_offload=True)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=full)
