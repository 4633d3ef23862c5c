"""Bound the time of a computation from below by its matrix products and attention alone (matmul-only bound)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
ATTENTION = "_scaled_dot_product_"  # forward and backward, fused


class Recorder(TorchDispatchMode):
    """Record the products computed while it is active, with operands of equal form, which calls share."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []
        self.operands: dict[tuple[Any, ...], Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same shape, strides and type, with small numbers, so that nothing overflows."""
        form = tensor.shape, tensor.stride(), tensor.dtype
        if form not in self.operands:
            made = torch.empty_strided(*form[:2], dtype=tensor.dtype)
            self.operands[form] = made.uniform_(-0.01, 0.01) if tensor.is_floating_point() else made.zero_()
        return self.operands[form]

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        """Record the call, if it is a product, and compute it."""
        named, name = named or {}, function.overloadpacket.__name__
        if name in PRODUCTS or name.startswith(ATTENTION):
            self.calls.append((function, *tree_map_only(Tensor, self.like, (arguments, named))))
        return function(*arguments, **named)


def alone(function: Callable[[], object]) -> Callable[[], None]:
    """Return a function that computes nothing but the matrix products and attention of another one."""
    with Recorder() as recorder:
        function()
    calls = recorder.calls

    def run() -> None:
        for product, arguments, named in calls:
            product(*arguments, **named)

    return torch.no_grad()(run)
