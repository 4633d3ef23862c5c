"""Linear probe: multinomial logistic regression on frozen image features, by scikit-learn's L-BFGS.

As in CLIP (Radford et al. 2021, appendix A.3): features are those before the projection into the common space, the
strength of the L2 penalty is swept on a part of the training pictures that is held out, and the probe is fitted to all
of them once more with the best one. Two things differ. Features are standardised first, as in MAE's probe (He et al.
2022, Table 10: a BatchNorm without weights before the classifier), so that systems whose features differ in size meet
the same sweep. And strengths are per picture, mean cross-entropy + strength / 2 x squared weights, so that a sweep
suits training sets of any size.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from flip.evaluate.features import Features

STRENGTHS = 10.0 ** np.arange(0, -4.5, -0.5)  # strongest first: each fit starts from the one before, near its end
HELD_OUT = 0.2  # of the training pictures, drawn at random
STEPS = 1000  # of L-BFGS at most, as in CLIP


def classifier(strength: float, pictures: int) -> LogisticRegression:
    return LogisticRegression(C=1 / (strength * pictures), max_iter=STEPS, warm_start=True)


def sweep(features: np.ndarray, labels: np.ndarray) -> float:
    """The strength that is best on pictures held out; the strongest of equal ones."""
    order = np.random.default_rng(0).permutation(len(labels))
    held, kept = np.split(order, [max(int(HELD_OUT * len(labels)), 1)])
    one, scores = classifier(STRENGTHS[0], len(kept)), []
    for strength in STRENGTHS:
        one.set_params(C=1 / (strength * len(kept))).fit(features[kept], labels[kept])
        scores.append(one.score(features[held], labels[held]))
    return float(STRENGTHS[np.argmax(scores)])


def fit(features: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    """The probe of standardised features [pictures, width] and classes [pictures]."""
    return classifier(sweep(features, labels), len(labels)).fit(features, labels)


def outcomes(training: Features, test: Features) -> np.ndarray:
    """1 where the probe says the test picture's class, else 0: float32 [pictures]."""
    scaler = StandardScaler().fit(training.pooled.numpy())
    probe = fit(scaler.transform(training.pooled.numpy()), training.labels)
    return (probe.predict(scaler.transform(test.pooled.numpy())) == test.labels).astype(np.float32)
