"""The logit scale stays between 1 and its limit as open_clip keeps it there: the parameter is clamped after each step,
so that a gradient can always bring it back; whatever is read is clamped, too; without a limit nothing is."""

import copy
import math

import pytest
import torch

from flip.export.target import own_weights
from flip.losses import build_towers
from flip.model.weights import load_weights, save_weights
from flip.train.process_group import ProcessGroup
from tests.conftest import SMALL
from tests.processes import together
from tests.test_distributed import build
from tests.test_train import advance, make_run

LIMIT = torch.tensor(math.log(100))
OUTSIDE = [(7.0, LIMIT), (-3.0, torch.tensor(0.0))]


@pytest.fixture
def run(change, small_data):
    """One whose learning rate is the same in each step."""
    train = {**SMALL["train"], "warmup_samples": 0, "base_lr": 0.5, "epochs": 3000.0}
    return make_run(change("clip", {**SMALL, "train": train}), small_data)


def pushed(run, direction, steps):
    """The logarithm of the scale after each of so many steps of a loss that is the scale, or for -1 its opposite."""
    found = []
    for _ in range(steps):
        run.optimizer.zero_grad()
        loss = direction * run.model.scale
        loss.backward()
        run.update({"some": loss.detach()})
        found.append(run.model.log_scale.item())
    return found


def twin(start, pushes, run):
    """open_clip's rule, written out: AdamW, then `logit_scale.clamp_(0, math.log(100))`."""
    parameter, train = torch.nn.Parameter(torch.tensor(start)), run.params.train
    optimizer = torch.optim.AdamW([parameter], betas=train.betas, eps=train.epsilon, weight_decay=0.0)
    total, found = run.steps * train.global_batch, []
    for step, direction in enumerate(pushes, 1):
        optimizer.param_groups[0]["lr"] = (
            train.peak_lr * 0.5 * (1 + math.cos(math.pi * step * train.global_batch / total))
        )
        optimizer.zero_grad()
        (direction * parameter.exp()).backward()
        optimizer.step()
        with torch.no_grad():
            parameter.clamp_(0, math.log(100))
        found.append(parameter.item())
    return found


@pytest.mark.parametrize("first", [-1.0, 1.0], ids=["up", "down"])
def test_a_scale_that_was_pushed_past_a_limit_comes_back(run, first):
    """As by open_clip's rule: 400 steps to one limit and against it, then 2,000 to the other."""
    start, ends = run.model.log_scale.item(), (LIMIT.item(), 0.0)[:: -int(first)]
    there, back = pushed(run, first, 400), pushed(run, -first, 2000)
    assert (there[-1], back[-1]) == ends
    assert all(0 <= one <= LIMIT.item() for one in there + back)
    assert there + back == pytest.approx(twin(start, 400 * [first] + 2000 * [-first], run), abs=1e-4)


def test_a_loss_moves_a_scale_at_its_limit(change, small_data):
    run = make_run(change("clip", SMALL), small_data)
    run.model.log_scale.data.fill_(LIMIT)
    run.gradients(next(run.batches()))
    assert run.model.log_scale.grad.item() != 0


@pytest.mark.parametrize("settings", [{}, {"micro_batch": 4}])
def test_no_step_leaves_the_limits(change, small_data, settings):
    train = {**SMALL["train"], "base_lr": 10.0, "warmup_samples": 0, **settings}
    run = make_run(change("clip", {**SMALL, "train": train}), small_data)
    for _ in range(48):
        advance(run, 1)
        assert 0 <= run.model.log_scale.item() <= LIMIT.item()
        assert 1 <= run.record(run.latest, 1.0)["scale"] <= 100
    assert run.model.log_scale.item() in (0.0, LIMIT.item())


def far(world, params, data):
    run = build(world, params, data)
    run.model.log_scale.data.fill_(LIMIT)
    pushed(run, -1.0, 2)
    return run.model.log_scale.item()


@pytest.mark.parametrize("shard", [False, True])
def test_all_processes_clamp(change, small_data, shard):
    params = change("clip", {**SMALL, "train": {**SMALL["train"], "shard_weights": shard}})
    for found in (*together(2, far, params, small_data), far(ProcessGroup(), params, small_data)):
        assert found == pytest.approx(LIMIT.item(), abs=1e-7)


def test_a_step_that_is_left_out_moves_nothing(run):
    run.model.log_scale.data.fill_(3.0)
    for parameter in run.parameters:
        parameter.grad = torch.full_like(parameter, float("nan"))
    assert run.update({"some": torch.zeros(())})
    assert run.model.log_scale.item() == 3.0


@pytest.mark.parametrize(("stored", "read"), OUTSIDE)
def test_what_was_stored_outside_the_limits_is_read_as_the_clamp_leaves_it(change, small_data, tmp_path, stored, read):
    """A public model's weights, an earlier version's; and a state to go on from."""
    run = make_run(change("clip", SMALL), small_data)
    state = copy.deepcopy(run.state())
    state["model"]["log_scale"].fill_(stored)
    run.restore(state)
    assert torch.equal(run.model.log_scale.data, read)
    save_weights(tmp_path / "weights.safetensors", state["model"])
    model = make_run(change("clip", SMALL), small_data, seed=1).model
    load_weights(tmp_path / "weights.safetensors", model)
    assert torch.equal(model.log_scale.data, read)
    assert torch.equal(own_weights(model)["log_scale"], read), "what is exported"
    assert model.scale.item() == pytest.approx(math.exp(read.item()))


@pytest.mark.parametrize(("temperature", "scale"), [(0.01, 100), (0.07, 1 / 0.07), (1.0, 1)])
def test_a_model_begins_within_the_limits(change, temperature, scale):
    model = build_towers(change("clip", {**SMALL, "logits": {"temperature": temperature}}), 20)
    assert model.scale.item() == pytest.approx(scale)


@pytest.mark.parametrize("start", [9.0, -5.0])
def test_without_a_limit_nothing_is_clamped(change, small_data, start):
    run = make_run(change("siglip", SMALL), small_data)
    run.model.log_scale.data.fill_(start)
    (moved,) = pushed(run, 1.0, 1)
    assert start - 1 < moved < start
    run.restore(copy.deepcopy(run.state()))
    assert run.model.log_scale.item() == moved


def test_a_model_without_logits_has_nothing_to_clamp(change, small_data):
    run = make_run(change("mae", SMALL), small_data)
    advance(run, 1)
    assert not hasattr(run.model, "log_scale")
