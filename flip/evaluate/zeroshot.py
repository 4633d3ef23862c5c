"""Classify zero-shot with prompt templates, by clip-benchmark's definition."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.evaluate.distinct import Firsts, encode_texts, firsts
from flip.evaluate.encoders import Full, ImageLoader, Tokenize
from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import kept

TEXTS = 4096  # prompts at once, about


@torch.no_grad()
def head(
    encoder: Full,
    tokenize: Tokenize,
    classes: list[str],
    templates: list[str],
    device: str,
    texts: int = TEXTS,
) -> Tensor:
    """Return one unit vector per class [d, classes]: the mean of the unit features of its prompts.

    clip-benchmark encodes one class at a time. Here the prompts of many classes go together, about `texts` of them.
    Classes of equal prompts get one vector.
    """
    found, alike, step = [], Firsts(), max(texts // len(templates), 1)
    for start in range(0, len(classes), step):
        ids = tokenize([template.format(c=name) for name in classes[start : start + step] for template in templates])
        alike.add(ids.unflatten(0, (-1, len(templates))))
        features = encode_texts(lambda some: F.normalize(encoder.encode_text(some), dim=-1), ids, device)
        mean = features.unflatten(0, (-1, len(templates))).mean(dim=1)
        found.append(mean / mean.norm(dim=1, keepdim=True))
    return torch.cat(found)[alike.places].T.to(device)


def outcomes(
    encoder: Full,
    tokenize: Tokenize,
    loader: ImageLoader,
    classes: list[str],
    templates: list[str],
    device: str,
    measure: str = ACCURACY,
) -> np.ndarray:
    """Return what the measure keeps of each image: float32 [images, ...]; for accuracy 1 where the image's class scores
    highest, else 0.

    clip-benchmark's own `accuracy` fails on numpy 2.4 and gives no interval; this is its top-1, per image.
    """
    # Here, as it imports scikit-learn, which takes two seconds, and who asks for a head alone has no need of it.
    from clip_benchmark.metrics import zeroshot_classification as benchmark

    weights = head(encoder, tokenize, classes, templates, device)
    logits, target = benchmark.run_classification(encoder, weights, loader, device, amp=False)
    logits = logits[:, firsts(weights.T)]  # a product's last bits differ between columns, equal classes' too
    return kept(measure, logits.numpy(), target.numpy())
