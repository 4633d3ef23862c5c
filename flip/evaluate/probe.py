"""Fit a linear probe: logistic regression on frozen image features, by scikit-learn; one per label if images have
several.

As in CLIP (Radford et al. 2021, appendix A.3): features are those before the projection into the common space, the
strength of the L2 penalty is swept on a part of the training images that is held out, and the probe is fitted to all
of them once more with the best one. Two things differ. Features are standardised first, as in MAE's probe (He et al.
2022, Table 10: a BatchNorm without weights before the classifier), so that systems whose features differ in size meet
the same sweep. And strengths are per image, mean cross-entropy + strength / 2 x squared weights, so that a sweep
suits training sets of any size.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from flip.evaluate.features import Features
from flip.metrics.measures import ACCURACY
from flip.metrics.scoring import kept, percent

STRENGTHS = 10.0 ** np.arange(0, -4.5, -0.5)  # strongest first: each fit starts from the one before, near its end
HELD_OUT = 0.2  # of the training images, drawn at random
STEPS = 1000  # of L-BFGS at most, as in CLIP

Probe: TypeAlias = LogisticRegression | OneVsRestClassifier


def fits(features: np.ndarray, labels: np.ndarray, strengths: Iterable[float]) -> Iterator[Probe]:
    """Yield the probe of each strength in turn, for features [images, width] and classes [images], or labels 0 or 1
    [images, classes]. It is one object, valid until the next is asked for."""
    one = LogisticRegression(max_iter=STEPS, warm_start=True)
    probe = OneVsRestClassifier(one) if labels.ndim == 2 else one
    for strength in strengths:
        one.set_params(C=1 / (strength * len(labels)))
        yield probe.fit(features, labels)


def logits(probe: Probe, features: np.ndarray, classes: int) -> np.ndarray:
    """Return logits [images, classes], as zero-shot classification has them; -inf for a class without training
    images."""
    if isinstance(probe, OneVsRestClassifier):
        return probe.decision_function(features)
    found = np.full((len(features), classes), -np.inf)
    scores = probe.decision_function(features)
    if scores.ndim == 1:  # of the second of two classes
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    # Not scikit-learn's predict_log_proba, which gives -inf where a probability is too small for its type.
    found[:, probe.classes_] = log_softmax(scores, axis=1)
    return found


def scored(probe: Probe, features: np.ndarray, labels: np.ndarray, measure: str) -> np.ndarray:
    """Return what the measure keeps of each image, [images, ...] (flip.metrics.scoring)."""
    classes = labels.shape[1] if labels.ndim == 2 else int(max(labels.max(), probe.classes_.max())) + 1
    return kept(measure, logits(probe, features, classes), labels)


def sweep(features: np.ndarray, labels: np.ndarray, measure: str = ACCURACY) -> float:
    """Return the strength that is best on held-out images, the strongest of equal ones; features [images, width],
    labels [images] or [images, classes]."""
    order = np.random.default_rng(0).permutation(len(labels))
    held, rest = np.split(order, [max(int(HELD_OUT * len(labels)), 1)])
    probes = fits(features[rest], labels[rest], STRENGTHS)
    found = [percent(measure, scored(probe, features[held], labels[held], measure)[None]) for probe in probes]
    return float(STRENGTHS[np.argmax(found)])


def fit(features: np.ndarray, labels: np.ndarray, measure: str = ACCURACY) -> Probe:
    """Fit the probe of the best strength, on the features [images, width] of all images."""
    return next(fits(features, labels, [sweep(features, labels, measure)]))


def outcomes(training: Features, test: Features, measure: str = ACCURACY) -> np.ndarray:
    """Return what the measure keeps of each test image: float32 [images, ...]; for accuracy 1 where the probe predicts
    its class, else 0."""
    scaler = StandardScaler().fit(training.pooled.numpy())
    probe = fit(scaler.transform(training.pooled.numpy()), training.labels, measure)
    return scored(probe, scaler.transform(test.pooled.numpy()), test.labels, measure)
