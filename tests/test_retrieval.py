"""Ranks counted block by block are those of the whole matrix sorted, and the recalls clip-benchmark's: over random
shapes, ties, images without captions, a single pair. What is not a number finds
nothing."""

import pytest
import torch
import torch.nn.functional as F
from clip_benchmark.metrics.zeroshot_retrieval import recall_at_k

from flip.evaluate.retrieval import ranks


def made(seed, most, few_values):
    """Features of at most so many images with 0 to 6 captions each; of few values, so that many scores are equal."""
    rng = torch.Generator().manual_seed(seed)
    images = int(torch.randint(1, most + 1, (), generator=rng))
    counts = torch.randint(0, 7, (images,), generator=rng)
    counts[0] = max(counts[0], 1)
    owners = torch.arange(images).repeat_interleave(counts)

    def draw(count):
        if few_values:
            return torch.randint(-1, 2, (count, 3), generator=rng).float()
        return F.normalize(torch.randn(count, 8, generator=rng), dim=-1)

    return draw(images), draw(len(owners)), owners


def twin(scores, right):
    """Rank of the first right answer in each row, sorted with the earlier of equal ones first."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    hits = right.gather(1, order)
    return torch.where(hits.any(1), hits.int().argmax(1) + 1, scores.shape[1] + 1)


@pytest.mark.parametrize("few_values", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_ranks_are_those_of_the_sorted_matrix(rows, few_values):
    for seed in range(25):
        images, texts, owners = made(seed, 30, few_values)
        scores, right = texts @ images.T, owners[:, None] == torch.arange(len(images))
        of_texts, of_images = ranks(images, texts, owners, rows)
        assert of_texts.tolist() == twin(scores, right).tolist()
        assert of_images.tolist() == twin(scores.T, right.T).tolist()


def test_recalls_are_clip_benchmarks():
    for seed in range(10):
        images, texts, owners = made(seed, 60, few_values=False)
        scores, right = texts @ images.T, owners[:, None] == torch.arange(len(images))
        found = ranks(images, texts, owners, 16)
        for rank, score, positive in zip(found, (scores, scores.T), (right, right.T), strict=True):
            for k in (k for k in (1, 5, 10) if k <= score.shape[1]):
                assert ((rank <= k) == (recall_at_k(score, positive, k) > 0)).all()


def test_one_pair():
    assert [one.tolist() for one in ranks(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0]))] == [[1], [1]]


@pytest.mark.parametrize("rows", [1, 4])
def test_what_is_not_a_number_finds_nothing(rows):
    images, texts, owners = torch.full((4, 2), torch.nan), torch.ones(8, 2), torch.arange(4).repeat_interleave(2)
    of_texts, of_images = ranks(images, texts, owners, rows)
    assert (of_texts > 4).all()
    assert (of_images > 8).all()
