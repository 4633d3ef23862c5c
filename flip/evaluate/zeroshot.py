"""Zero-shot classification with prompt templates, by clip-benchmark's functions."""

import numpy as np
import torch
import torch.nn.functional as F
from clip_benchmark.metrics import zeroshot_classification as benchmark
from torch import Tensor

from flip.measures import ACCURACY, kept

PROMPTS = 4096  # at a time


@torch.no_grad()
def head(encoder, tokenize, classes: list[str], templates: list[str], device: str) -> Tensor:
    """Classes' weights [width, classes]: of each the mean of its prompts' unit features, of unit length (CLIP, section
    3.1.4). Prompts of many classes are encoded together, each text once."""
    prompts = [template.format(c=name) for name in classes for template in templates]
    row = {text: number for number, text in enumerate(dict.fromkeys(prompts))}
    texts, found = list(row), []
    for start in range(0, len(texts), PROMPTS):
        features = encoder.encode_text(tokenize(texts[start : start + PROMPTS]).to(device))
        found.append(F.normalize(features, dim=-1))
    every = torch.cat(found)[torch.tensor([row[text] for text in prompts])]
    return F.normalize(every.unflatten(0, (len(classes), -1)).mean(dim=1), dim=-1).T


@torch.no_grad()
def outcomes(encoder, tokenize, loader, classes, templates, device: str, measure: str = ACCURACY) -> np.ndarray:
    """What the measure keeps of each picture: float32 [pictures, ...]; for accuracy 1 where the picture's class scores
    highest, else 0.

    clip-benchmark's own `accuracy` fails on numpy 2.4 and gives no interval; this is its top-1, per picture.
    """
    weights = head(encoder, tokenize, classes, templates, device)
    logits, target = benchmark.run_classification(encoder, weights, loader, device, amp=False)
    return kept(measure, logits.numpy(), target.numpy())
