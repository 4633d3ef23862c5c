"""Language-image pre-training as a reproducible pipeline.

import flip

model = flip.load("flip-50")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from flip.pretrained import PretrainedModel

__all__ = ["load"]


def load(
    name: "str | Path",
    scale: str | None = None,
    seed: int = 0,
    device: str | None = None,
    tokenizer: "str | Path | None" = None,
) -> "PretrainedModel":
    """Load a trained model: flip.pretrained.load says which, and by what names. This imports torch, `import flip` does
    not."""
    from flip.pretrained import load

    return load(name, scale, seed, device, tokenizer)
