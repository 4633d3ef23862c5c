"""Score captions by CIDEr-D and BLEU-4, as pycocoevalcap computes them, from words alone and without Java.

A score of a whole set that is no mean over images is turned into one by the infinitesimal jackknife (Efron 1982): each
image gets the set's score plus its influence, the derivative with respect to its weight. The mean of these values is
the score, and resampling them gives its interval, so that a table treats it as any other metric.
"""

from collections import Counter
from math import exp, log

import numpy as np

Gram = tuple[str, ...]
Vector = dict[Gram, float]
ORDERS = range(1, 5)  # n-grams up to four words
SIGMA = 6.0  # words, in CIDEr-D's Gaussian penalty for the difference in length


def ngrams(tokens: list[str], order: int) -> Counter[Gram]:
    """Count the n-grams of a caption."""
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))


def weighted(tokens: list[str], rarity: dict[Gram, float], unseen: float, order: int) -> Vector:
    """Return TF-IDF of a caption's n-grams; `unseen` is the IDF of those that no reference has."""
    return {gram: count * rarity.get(gram, unseen) for gram, count in ngrams(tokens, order).items()}


def norm(vector: Vector) -> float:
    """Return the Euclidean norm."""
    return sum(value**2 for value in vector.values()) ** 0.5


def similarity(caption: Vector, reference: Vector) -> float:
    """Return the cosine of two vectors, the caption's clipped to the reference's."""
    together = sum(
        min(value, reference[gram]) * reference[gram] for gram, value in caption.items() if gram in reference
    )
    return together / (norm(caption) * norm(reference)) if together else 0.0


def cider(captions: list[list[str]], references: list[list[list[str]]]) -> np.ndarray:
    """Return CIDEr-D of each image [images], at most 10, of words of its caption and of its references.

    Vedantam et al. 2015 (arXiv 1411.5726), section 5 with equation 6; IDF is computed over these references.
    """
    scores, unseen = np.zeros(len(captions)), log(len(references))
    for order in ORDERS:
        seen = Counter(gram for some in references for gram in {g for one in some for g in ngrams(one, order)})
        rarity = {gram: unseen - log(count) for gram, count in seen.items()}
        for row, (caption, some) in enumerate(zip(captions, references, strict=True)):
            own = weighted(caption, rarity, unseen, order)
            for one in some:
                penalty = exp(-((len(caption) - len(one)) ** 2) / (2 * SIGMA**2))
                both = similarity(own, weighted(one, rarity, unseen, order))
                scores[row] += 10 * penalty * both / len(some) / len(ORDERS)
    return scores


def bleu_counts(caption: list[str], references: list[list[str]]) -> np.ndarray:
    """Return BLEU's counts of one image [10]: by order, matching n-grams and n-grams; words, and words of the reference
    of the nearest length."""
    found = []
    for order in ORDERS:
        own = ngrams(caption, order)
        best: Counter[Gram] = Counter()
        for one in references:
            best |= ngrams(one, order)
        found += [sum((own & best).values()), sum(own.values())]
    nearest = min((abs(len(one) - len(caption)), len(one)) for one in references)[1]
    return np.array([*found, len(caption), nearest], float)


def bleu(captions: list[list[str]], references: list[list[list[str]]]) -> np.ndarray:
    """Return values per image [images] whose mean is BLEU-4 of the whole set (Papineni et al. 2002), at most 1."""
    counts = np.array([bleu_counts(*one) for one in zip(captions, references, strict=True)])
    mean = counts.mean(axis=0)
    if not mean[:8].all():
        return np.zeros(len(counts))
    matches, grams = slice(0, 8, 2), slice(1, 8, 2)
    length, nearest = mean[8:]
    share = counts[:, :8] / mean[:8]
    slope = (share[:, matches] - share[:, grams]).mean(axis=1)
    score = exp(np.log(mean[matches] / mean[grams]).mean())
    if length < nearest:  # the brevity penalty
        score *= exp(1 - nearest / length)
        slope += (counts[:, 8] / length - counts[:, 9] / nearest) * nearest / length
    return score * (1 + slope)


def ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return values per image [images] whose mean is the mean over all answers.

    Each image has `counts` answers, whose scores add up to `sums`.
    """
    score = sums.sum() / counts.sum()
    return score + (sums - score * counts) / counts.mean()
