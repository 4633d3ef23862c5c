"""Zero-shot classification with prompt templates, by clip-benchmark's functions."""

import numpy as np
from clip_benchmark.metrics import zeroshot_classification as benchmark


def outcomes(encoder, tokenize, loader, classes, templates, device: str) -> np.ndarray:
    """1 where the picture's class scores highest, else 0: float32 [pictures].

    clip-benchmark's own `accuracy` fails on numpy 2.4 and gives no interval; this is its top-1, per picture.
    """
    weights = benchmark.zero_shot_classifier(encoder, tokenize, classes, templates, device, amp=False)
    logits, target = benchmark.run_classification(encoder, weights, loader, device, amp=False)
    return (logits.argmax(dim=1) == target).numpy().astype(np.float32)
