"""Name the types of batches that a training step reads: pairs, images alone, or captions alone.

A batch holds tensors by name, which go to the device, and numpy arrays, which stay in main memory: numbers per sample
that decide how large tensors are, so that nobody has to wait for the device to know them.
"""

from typing import Any

Batch = dict[str, Any]

PAIRS, IMAGES, TEXTS = "pairs", "images", "texts"
PAD = -1  # stands behind the words of a caption; no tokenizer has this id, while 0 is a word in CLIP's


def batch_type(batch: dict) -> str:
    """Return the type of a batch, from what it holds."""
    if "ids" not in batch:
        return IMAGES
    return PAIRS if batch.keys() & {"images", "features"} else TEXTS
