"""What bounds a computation from below: its matrix products and attention alone, of equal shapes, nothing between."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
ATTENTION = "_scaled_dot_product_"  # forward and backward, fused


class Recorder(TorchDispatchMode):
    """Notes the products that are computed while it is on, with operands like theirs, which many of them share."""

    def __init__(self):
        super().__init__()
        self.calls, self.operands = [], {}

    def like(self, tensor: Tensor) -> Tensor:
        """One of its shape, strides and type; small numbers, so that none overflows."""
        form = tensor.shape, tensor.stride(), tensor.dtype
        if form not in self.operands:
            made = torch.empty_strided(*form[:2], dtype=tensor.dtype)
            self.operands[form] = made.uniform_(-0.01, 0.01) if tensor.is_floating_point() else made.zero_()
        return self.operands[form]

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named, name = named or {}, function.overloadpacket.__name__
        if name in PRODUCTS or name.startswith(ATTENTION):
            self.calls.append((function, *tree_map_only(Tensor, self.like, (arguments, named))))
        return function(*arguments, **named)


def alone(function):
    """A function that computes nothing but the products of another one."""
    with Recorder() as recorder:
        function()
    calls = recorder.calls

    def run() -> None:
        for product, arguments, named in calls:
            product(*arguments, **named)

    return torch.no_grad()(run)
