"""Measure whether captions find their images, and images their captions, among all of a set."""

import numpy as np

from flip.evaluate import retrieval
from flip.evaluate.encoders import Cached
from flip.evaluate.features import compute
from flip.evaluate.gallery import best_matches
from flip.evaluate.trial import Trial


def measure(trial: Trial) -> dict[str, np.ndarray]:
    """Return outcomes [images] or [images, 2] by side and rank: "-image-r1"; none without a space for both sides."""
    if not (trial.params.has_image_tower and trial.params.aligned):
        return {}
    features = compute(trial.model, trial.read(), trial.device)
    scores = retrieval.outcomes(Cached(trial.model), trial.tokenize, features.batches(), trial.device)
    return {f"-{metric}": values for metric, values in scores.items()}


def show(trial: Trial) -> tuple[str, bytes, dict]:
    """Return a sheet of captions with the images that fit them best."""
    return "matches", *best_matches(trial.model, trial.tokenize, trial.read(), trial.device)
