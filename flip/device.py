"""The machine that a process computes on."""

import ctypes

import torch
from threadpoolctl import threadpool_limits

from flip.provenance.environment import processor


def keep_memory() -> None:
    """Tells glibc to keep freed memory: a step's activations are the same blocks each time, and giving them back to
    the kernel costs a page fault per 4 kB."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_threshold, 2**30)
    except (OSError, AttributeError):
        pass  # another C library: slower, not wrong


def use_threads(count: int) -> None:
    """Of torch, and of the libraries behind numpy and scipy that are loaded: theirs wait for one another on cores that
    others use, which made a linear probe take 30 times as long."""
    torch.set_num_threads(count)
    threadpool_limits(count)


def pick_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device) -> str:
    """The GPU's name, or the processor's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()
