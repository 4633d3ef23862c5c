"""Let torchvision be imported beside a CPU build of torch; import this before timm, open_clip or clip-benchmark.

PyPI's torchvision is a CUDA build. Beside a CPU torch its compiled operators cannot load, and its import fails where it
describes them. Nothing here uses them: declaring their schemas is enough.
"""

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


# Kept for as long as the process lives: the schemas go with it.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT") if torch.version.cuda is None else None
for _name, _schema in _SCHEMAS.items():
    if _LIBRARY is not None and not hasattr(torch.ops.torchvision, _name):
        _LIBRARY.define(_schema)
