"""A mismatched caption is that of the neighbour in the same global batch: for batches of any size, however many
processes or micro-batches share it, and where steps read different kinds of samples."""

import pytest
import torch

from flip.data.batch_types import PAIRS
from flip.losses.flava import neighbour
from flip.train.gradcache import split
from tests.conftest import SMALL
from tests.test_train import make_run

MIX = {"pairs": 0.4, "images": 0.3, "texts": 0.3}
STEPS = 12


@pytest.mark.parametrize("step", [1, 2, 3, 8, 9, 15])
def test_neighbours_stay_within_their_global_batch(step):
    for position in range(4 * step):
        other = neighbour(position, step)
        assert other // step == position // step
        assert (other == position) == (step == 1)
        if not step % 2:
            assert other == position ^ 1
        elif (position + 1) % step:
            assert neighbour(other, step) == position


def batches(params, data, size):
    """The first steps' global batches, by each of `size` processes its part, and joined."""
    loader, step = make_run(params, data).loader, params.train.global_batch
    own = step // size
    for first in range(0, STEPS * step, step):
        parts = [loader.batch(first + rank * own, own) for rank in range(size)]
        yield {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("mix", [None, MIX], ids=["pairs alone", "mixed"])
@pytest.mark.parametrize("batch", [8, 9, 15])
def test_other_captions_are_those_of_the_batch(change, small_data, batch, mix):
    flava = {**SMALL["flava"], "mismatched": 0.5} | ({"mix": mix} if mix else {})
    params = change("flava", {**SMALL, "flava": flava, "train": {**SMALL["train"], "batch": batch}})
    wrong, of_pairs = 0, 0
    whole = list(batches(params, small_data, 1))
    for found in whole:
        if "other_ids" not in found:
            assert mix
            continue
        of_pairs += 1
        own, others, mismatched = (found[name] for name in ("ids", "other_ids", "mismatched"))
        rows = torch.tensor([neighbour(position, batch) % batch for position in found["positions"].tolist()])
        assert torch.equal(others[~mismatched], own[~mismatched])
        assert torch.equal(others[mismatched], own[rows][mismatched])
        wrong += int(mismatched.sum())
    assert 0.3 < wrong / (of_pairs * batch) < 0.7
    for size in (size for size in (2, 3) if batch % size == 0):
        for one, other in zip(whole, batches(params, small_data, size), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    for part in split(whole[0], 4):
        assert torch.equal(part["mismatched"], (part["ids"] != part["other_ids"]).any(dim=1))


def test_with_a_mix_all_captions_of_a_step_belong_to_pairs(change, small_data):
    """With an odd batch, the neighbour across the step's end would be a sample of another kind."""
    flava = {**SMALL["flava"], "mismatched": 0.9, "mix": MIX}
    params = change("flava", {**SMALL, "flava": flava, "train": {**SMALL["train"], "batch": 9}})
    order = make_run(params, small_data).loader.order
    for position in range(STEPS * 9):
        assert order.batch_type(neighbour(position, 9)) == order.batch_type(position)
    assert {order.batch_type(9 * step) for step in range(STEPS)} > {PAIRS}
