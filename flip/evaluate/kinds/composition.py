"""Measure compositionality (hard negatives): of two captions that differ in one respect, or have the same words in
another order, the image should be nearer to the right one (SugarCrepe, Hsieh et al. 2023, section 4)."""

from collections import defaultdict
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.kinds.composition import samples
from flip.evaluate.distinct import Firsts, encode_texts, exact
from flip.evaluate.encoders import Tokenize
from flip.evaluate.trial import Trial
from flip.formats.images import decode
from flip.formats.layout import tars
from flip.metrics.scoring import by_image
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import to_square


def preference(image: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Return 1 where the image is nearer to the right caption, 0 where to the wrong one; 1/2 for a tie, which is the
    value for guessing. All features are [pairs, embedding], of any length."""
    image, right, wrong = (exact(F.normalize(one, dim=-1)) for one in (image, right, wrong))
    return ((image * right).sum(dim=-1) - (image * wrong).sum(dim=-1)).sign() / 2 + 0.5


@torch.no_grad()
def outcomes(model: TwoTowers, tokenize: Tokenize, folder: Path, device: str, batch: int) -> dict[str, np.ndarray]:
    """Return by kind `preference` [samples] for each that has such a pair, its mean where it has several; as `by_image`
    stores it, since an image may be there in several samples."""
    found, owners, alike, side = defaultdict(list), defaultdict(list), Firsts(), model.params.model.image
    every = chain.from_iterable(map(samples, tars(folder)))
    while some := list(islice(every, batch)):
        images = torch.stack([to_square(decode(image, str(folder)), side) for image, _ in some])
        features, start = model.encode_image(images.to(device)), len(alike.found)
        alike.add(images)
        pairs = [(row, one) for row, (_, pairs) in enumerate(some) for one in pairs]
        both = tokenize([getattr(one, which) for which in ("right", "wrong") for _, one in pairs])
        right, wrong = encode_texts(model.encode_text, both, device).chunk(2)
        rows = [row for row, _ in pairs]
        scores = defaultdict(list)
        for (row, one), score in zip(pairs, preference(features[rows].cpu(), right, wrong).tolist(), strict=True):
            scores[one.kind, row].append(score)
        for (kind, row), values in scores.items():
            found[kind].append(np.mean(values))
            owners[kind].append(alike.found[start + row])
    return {kind: by_image(np.array(values), np.array(owners[kind])) for kind, values in found.items()}


def measure(trial: Trial) -> dict[str, np.ndarray]:
    """Return `outcomes` [samples] by "-<kind of pair>", if the model has a space for both sides."""
    if not trial.params.aligned:
        return {}
    found = outcomes(trial.model, trial.tokenize, trial.folder, trial.device, trial.params.evaluate.batch)
    return {f"-{kind}": values for kind, values in found.items()}
