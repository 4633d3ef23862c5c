"""Linear probe: logistic regression on frozen image features, by L-BFGS; one per label where pictures have several.

As in CLIP (Radford et al. 2021, appendix A.3): features are those before the projection into the common space, the
strength of the L2 penalty is swept on a part of the training pictures that is held out, and the probe is fitted to all
of them once more with the best one. Two things differ. Features are standardised first, as in MAE's probe (He et al.
2022, Table 10: a BatchNorm without weights before the classifier), so that systems whose features differ in size meet
the same sweep. And strengths are per picture, mean cross-entropy + strength / 2 x squared weights, so that a sweep
suits training sets of any size.

What is minimised, and how far, is what scikit-learn's LogisticRegression does. Here L-BFGS moves along the features'
principal axes, which the penalty does not notice, in steps as long as each of them allows, and so needs fewer.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from flip.evaluate.features import Features
from flip.measures import ACCURACY
from flip.scoring import kept, percent

STRENGTHS = 10.0 ** np.arange(0, -4.5, -0.5)  # strongest first: each fit starts from the one before, near its end
HELD_OUT = 0.2  # of the training pictures, drawn at random
STEPS = 1000  # of L-BFGS at most, as in CLIP
TOLERANCE = 1e-4  # of the gradient's largest entry, as in scikit-learn


def logits(features: Tensor, probe: Tensor) -> Tensor:
    """[pictures, columns]; the last row of a probe [width + 1, columns] are its intercepts."""
    return torch.addmm(probe[-1].to(features), features, probe[:-1].to(features))


def cross_entropy(found: Tensor, targets: Tensor) -> Tensor:
    """Of logits [pictures, columns], a mean over pictures: the softmax's for classes [pictures], the sum of those of
    sigmoids for labels [pictures, columns]."""
    if targets.ndim == 1:
        return F.cross_entropy(found, targets, reduction="none").double().mean()
    return F.binary_cross_entropy_with_logits(found, targets, reduction="none").double().sum(1).mean()


def steps(features: Tensor, likely: float, strength: float) -> Tensor:
    """How far a row of the probe moves where the optimizer moves by 1 [width + 1, 1]: the inverse root of the loss's
    curvature where each column has a probability of `likely`. So L-BFGS meets a bowl that is about round."""
    spread = torch.cat([features.square().mean(0).double(), torch.ones(1)])
    curvature = likely * (1 - likely) * spread
    curvature[:-1] += strength
    return curvature.rsqrt()[:, None]


def fit(features: Tensor, targets: Tensor, strength: float, start: Tensor) -> Tensor:
    """The probe, float64 [width + 1, columns].

    Args:
        features: [pictures, width], along principal axes for speed.
        targets: classes [pictures], or labels 0.0 or 1.0 [pictures, columns].
        strength: of the penalty, per picture; intercepts have none.
        start: a probe to begin from.
    """
    step = steps(features, 0.5 if targets.ndim == 2 else 1 / start.shape[1], strength)
    probe = start.clone().requires_grad_()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        probe.data, probe.grad = torch.from_numpy(flat).view_as(probe) * step, None
        value = cross_entropy(logits(features, probe), targets) + strength / 2 * probe[:-1].square().sum()
        value.backward()
        return value.item(), (probe.grad * step).numpy().ravel()

    def enough(_) -> None:
        if probe.grad.abs().max() <= TOLERANCE:
            raise StopIteration

    options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "gtol": 0, "ftol": 64 * np.finfo(float).eps}
    begin = (start / step).numpy().ravel()
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", callback=enough, options=options)
    return torch.from_numpy(found.x).view_as(start) * step


def aims(labels: np.ndarray, classes: int) -> Tensor:
    """What logits are fitted to: classes [pictures], or labels; two classes are one label, as in scikit-learn."""
    if labels.ndim == 1 and classes > 2:
        return torch.from_numpy(labels)
    return torch.from_numpy(labels.reshape(len(labels), -1)).float()


def scores(features: Tensor, probe: Tensor, labels: np.ndarray) -> np.ndarray:
    """Logits [pictures, classes], as zero-shot classification has them."""
    found = logits(features, probe)
    return (F.pad(found, (1, 0)) if labels.ndim == 1 and found.shape[1] == 1 else found).numpy()


def sweep(features: Tensor, labels: np.ndarray, classes: int, measure: str = ACCURACY) -> tuple[float, Tensor]:
    """The strength that is best on pictures held out, the strongest of equal ones; and its probe, of the others."""
    order, targets = np.random.default_rng(0).permutation(len(labels)), aims(labels, classes)
    held, rest = np.split(order, [max(int(HELD_OUT * len(labels)), 1)])
    columns = targets.shape[1] if targets.ndim == 2 else classes
    probe, found = torch.zeros(features.shape[1] + 1, columns, dtype=torch.float64), []
    for strength in STRENGTHS:
        probe = fit(features[rest], targets[rest], strength, probe)
        some = kept(measure, scores(features[held], probe, labels), labels[held])
        found.append((percent(measure, some[None]), float(strength), probe))
    _, best, probe = max(found, key=lambda one: one[0])
    return best, probe


def outcomes(training: Features, test: Features, measure: str = ACCURACY) -> np.ndarray:
    """What the measure keeps of each test picture: float32 [pictures, ...]; for accuracy 1 where the probe says its
    class, else 0."""
    axes = make_pipeline(StandardScaler(), PCA(svd_solver="covariance_eigh")).fit(training.pooled.numpy())
    features, seen = (torch.from_numpy(axes.transform(one.pooled.numpy())) for one in (training, test))
    labels, classes = training.labels, int(test.labels.max()) + 1
    probe = fit(features, aims(labels, classes), *sweep(features, labels, classes, measure))
    return kept(measure, scores(seen, probe, labels), test.labels)
