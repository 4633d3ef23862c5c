"""Describe the machine that a process computes on, and copy between its main memory and its device."""

import ctypes
import os
from contextlib import AbstractContextManager, nullcontext

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from flip.data.batch_types import Batch
from flip.provenance.environment import processor


def keep_memory() -> None:
    """Make glibc keep freed memory.

    A step's activations are the same blocks each time, and giving them back to the kernel costs a page fault per 4 kB.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_threshold, 2**30)
    except (OSError, AttributeError):
        pass  # another C library: slower, not wrong


def use_threads(count: int) -> None:
    """Set the threads of torch, and of the libraries behind numpy and scipy: those that are loaded, and by the
    environment those that scikit-learn loads when a probe is fitted.

    Theirs wait for one another on cores that others use, which made a linear probe take 30 times as long.
    """
    torch.set_num_threads(count)
    threadpool_limits(count)
    os.environ |= {"OMP_NUM_THREADS": str(count), "OPENBLAS_NUM_THREADS": str(count)}


def pick_device() -> str:
    """Return "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str | torch.device) -> str:
    """Return the GPU's name, or the processor's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context whose products keep the type of what is multiplied, as where sums must be exact."""
    known = device.type in ("cpu", "cuda")  # shapes alone (meta) have no autocast
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


class ToDevice:
    """Copy the tensors of batches to a device; on a GPU the copies overlap with compute, on a stream of their own.

    A copy is asynchronous only from pinned memory, where the loader puts images; other tensors are pinned here.
    """

    def __init__(self, device: str | torch.device):
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        tensors = {name: tensor for name, tensor in batch.items() if isinstance(tensor, Tensor)}
        return batch | self._copies(tensors)

    def _copies(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.stream is None:
            return {name: tensor.to(self.device) for name, tensor in tensors.items()}
        with torch.cuda.stream(self.stream):
            copies = {name: self._copy(tensor) for name, tensor in tensors.items()}
        step = torch.cuda.current_stream(self.device)
        step.wait_stream(self.stream)
        for tensor in copies.values():
            tensor.record_stream(step)  # its memory is not used again before the step is over
        return copies

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.is_cuda else tensor.pin_memory().to(self.device, non_blocking=True)


class FromDevice:
    """Hold a scalar that the device computes; calling it waits for what it depends on, and not for what was queued
    after it."""

    def __init__(self, number: Tensor):
        self.copy = number.detach().to("cpu", non_blocking=True)
        self.event: torch.cuda.Event | None = None
        if number.is_cuda:
            self.event = torch.cuda.Event()
            self.event.record(torch.cuda.current_stream(number.device))

    def __call__(self) -> float:
        if self.event:
            self.event.synchronize()
        return self.copy.item()


def local_part(x: Tensor) -> Tensor:
    """Return this process's part of a tensor that may be sharded."""
    return x.to_local() if hasattr(x, "to_local") else x
