"""`flip.train.__main__` that meets with an accident at a given step."""

import os
import resource
import signal

import torch

import flip.train.checkpoint
from flip.train import __main__ as pretrain
from flip.train.step import TrainingRun


def send(number):
    return lambda run: os.kill(os.getpid(), number)


def fill_disk(run):
    """No file may grow further; the kernel refuses the next write."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))


def take_memory(run):
    torch.empty(2**60, dtype=torch.uint8)


def spoil_gradient(run):
    next(run.model.parameters()).grad.flatten()[0] = float("nan")


def hang(run):
    signal.pause()


def kill_writer(run):
    """SIGKILL in the middle of the next checkpoint's file."""

    def half(state, file):
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    flip.train.checkpoint.torch = type("torch", (), {"save": staticmethod(half)})


ACCIDENTS = {
    "none": lambda run: None,
    "kill": send(signal.SIGKILL),
    "term": send(signal.SIGTERM),
    "disk": fill_disk,
    "memory": take_memory,
    "nan": spoil_gradient,
    "hang": hang,
    "writer": kill_writer,
}


def pretrain_with(accident: str, step: int, words: list) -> None:
    """To be called in a process of its own: it does not recover."""
    gradients = TrainingRun.gradients

    def disturbed(run, batch):
        losses = gradients(run, batch)
        if run.done == step and run.group.rank == run.group.size - 1:
            ACCIDENTS[accident](run)
        return losses

    TrainingRun.gradients = disturbed
    pretrain.main([str(word) for word in words])
