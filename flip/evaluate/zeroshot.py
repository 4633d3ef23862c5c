"""Zero-shot classification with prompt templates, by clip-benchmark's definition."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.measures import ACCURACY
from flip.scoring import kept

TEXTS = 4096  # prompts encoded at once, about


@torch.no_grad()
def head(encoder, tokenize, classes: list[str], templates: list[str], device: str, texts: int = TEXTS) -> Tensor:
    """One unit vector per class [d, classes]: the mean of the unit features of its prompts.

    clip-benchmark encodes one class at a time. Here the prompts of many classes go together, about `texts` of them, and
    of equal ones just one.
    """
    found, step = [], max(texts // len(templates), 1)
    for start in range(0, len(classes), step):
        prompts = [template.format(c=name) for name in classes[start : start + step] for template in templates]
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        features = F.normalize(encoder.encode_text(tokenize(list(places)).to(device)), dim=-1)
        each = features[[places[prompt] for prompt in prompts]].unflatten(0, (-1, len(templates)))
        mean = each.mean(dim=1)
        found.append(mean / mean.norm(dim=1, keepdim=True))
    return torch.cat(found).T


def outcomes(encoder, tokenize, loader, classes, templates, device: str, measure: str = ACCURACY) -> np.ndarray:
    """What the measure keeps of each picture: float32 [pictures, ...]; for accuracy 1 where the picture's class scores
    highest, else 0.

    clip-benchmark's own `accuracy` fails on numpy 2.4 and gives no interval; this is its top-1, per picture.
    """
    # Here, as it imports scikit-learn, which takes two seconds, and who asks for a head alone has no need of it.
    from clip_benchmark.metrics import zeroshot_classification as benchmark

    weights = head(encoder, tokenize, classes, templates, device)
    logits, target = benchmark.run_classification(encoder, weights, loader, device, amp=False)
    return kept(measure, logits.numpy(), target.numpy())
