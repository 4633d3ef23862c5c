"""In which type results of the model are handed to the losses."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """At least float32: in bfloat16, logits and squared errors would keep two digits. float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
