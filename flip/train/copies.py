"""Copies between main memory and the device, for which neither has to wait."""

import torch
from torch import Tensor


class ToDevice:
    """Puts batches on a device: on a GPU beside the step that it is at, on a stream of its own.

    A copy runs by itself only from pinned memory, where the loader puts pictures; what lies elsewhere is put there.
    """

    def __init__(self, device):
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.stream is None:
            return {name: tensor.to(self.device) for name, tensor in batch.items()}
        with torch.cuda.stream(self.stream):
            there = {name: self._copy(tensor) for name, tensor in batch.items()}
        step = torch.cuda.current_stream(self.device)
        step.wait_stream(self.stream)
        for tensor in there.values():
            tensor.record_stream(step)  # its memory is not used again before the step is over
        return there

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.is_cuda else tensor.pin_memory().to(self.device, non_blocking=True)


class FromDevice:
    """A number that the device computes; who asks for it waits for what it is made of, and not for what came after."""

    def __init__(self, number: Tensor):
        self.copy, self.made = number.detach().to("cpu", non_blocking=True), None
        if number.is_cuda:
            self.made = torch.cuda.Event()
            self.made.record(torch.cuda.current_stream(number.device))

    def __call__(self) -> float:
        if self.made:
            self.made.synchronize()
        return self.copy.item()
