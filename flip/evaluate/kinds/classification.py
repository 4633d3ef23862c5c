"""Measure whether images are told their class by prompts and, where the set has a training split, by a linear probe."""

import numpy as np

from flip.evaluate import zeroshot
from flip.evaluate.encoders import Cached
from flip.evaluate.features import Features, compute
from flip.evaluate.trial import Trial
from flip.testsets.reader import prompts


def zero_shot(trial: Trial, features: Features) -> dict[str, np.ndarray]:
    """Return outcomes [images, ...] of the set's prompts, under ""."""
    encoder, (classes, templates) = Cached(trial.model), prompts(trial.folder)
    assert classes is not None
    assert templates is not None
    batches, device = features.batches(), trial.device
    return {"": zeroshot.outcomes(encoder, trial.tokenize, batches, classes, templates, device, trial.measure)}


def measure(trial: Trial) -> dict[str, np.ndarray]:
    """Return outcomes [images, ...]: "" of prompts, if the model has a space for both sides, and "-probe"."""
    if not trial.params.has_image_tower or not (trial.params.aligned or trial.probed):
        return {}
    found: dict[str, np.ndarray] = {}
    features = compute(trial.model, trial.read(), trial.device)
    if trial.params.aligned:
        found |= zero_shot(trial, features)
    if trial.probed:
        from flip.evaluate import probe  # here, as scikit-learn takes two seconds to import

        training = compute(trial.model, trial.read("train"), trial.device, ranked=False)
        found["-probe"] = probe.outcomes(training, features, trial.measure)
    return found
