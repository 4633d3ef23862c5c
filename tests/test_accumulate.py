"""A step in micro-batches has the loss and the gradients of one over the whole batch, whatever the losses and masks;
activations that are computed twice give the same bits, and fewer bytes are held."""

import copy
from pathlib import Path

import pytest
import torch

from flip.config.resolve import Project
from flip.files import read_json
from flip.provenance.layout import Layout
from flip.provenance.specs import specs
from flip.train.step_cost import Step
from tests.conftest import SMALL
from tests.test_train import advance, make_run, weights
from tests.variants import EVERY_KIND


def trained(change, variant, **settings):
    """Parameters of a small variant; "flip-75-mae and text" removes words, too."""
    variant, text = variant.removesuffix(" and text"), variant.endswith(" and text")
    delta = {**SMALL, "train": {**SMALL["train"], "batch": 24, **settings}}
    return change(variant, {**delta, "masking": {"text": 0.5}} if text else delta)


def gradients(change, data, variant, **settings):
    """Losses of one batch and the gradient of each parameter, in float64."""
    run = make_run(trained(change, variant, **settings), data)
    run.model.double()
    losses = run.backward(run.on_device(run.loader.batch(17, 24)))
    return losses, {name: parameter.grad for name, parameter in run.model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("variant", [*EVERY_KIND, "flip-75-mae and text"])
@pytest.mark.parametrize("size", [1, 8, 24])
def test_micro_batches_have_the_gradients_of_the_whole_batch(change, small_data, variant, size):
    expected, whole = gradients(change, small_data, variant)
    losses, parts = gradients(change, small_data, variant, micro_batch=size)
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        assert loss.dtype == torch.float64
        torch.testing.assert_close(losses[name], loss, rtol=1e-10, atol=0)
    for name, gradient in whole.items():
        assert gradient.abs().max() > 0, name
        error = (parts[name] - gradient).norm() / gradient.norm()
        assert error < 1e-6, (name, error)


def test_parts_alone_are_not_the_whole(change, small_data):
    """What the two passes are for: the mean of the micro-batches' own gradients is another one."""
    run = make_run(trained(change, "clip"), small_data)
    losses = [run.backward(run.loader.batch(start, 8))["contrastive"] for start in (0, 8, 16)]
    whole = run.losses(run.loader.batch(0, 24))["contrastive"]
    assert abs(sum(losses) / 3 - whole) > 0.1


def test_micro_batches_learn_in_bfloat16_and_resume(change, small_data):
    params = trained(change, "flip-75-mae", micro_batch=8, precision="bfloat16")
    whole = make_run(params, small_data)
    losses = [sum(step.values()).item() for step in advance(whole, 20)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    first, second = make_run(params, small_data), make_run(params, small_data)
    advance(first, 12)
    second.restore(first.state())
    advance(second, 8)
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(whole).items())


@pytest.mark.parametrize(("size", "nearest"), [(7, 6), (48, 24)])
def test_a_micro_batch_that_does_not_divide_the_batch_is_refused(change, size, nearest):
    message = rf"micro_batch = {size} does not divide batch x batch_scale = 24; allowed: null, .* such as {nearest}"
    with pytest.raises(ValueError, match=message):
        trained(change, "clip", micro_batch=size)


def test_costs_are_measured_with_micro_batches(change, small_data):
    """Also where cost.batch cuts the batch to no multiple of them: the same two passes, which is what FLOPs say."""
    flops = {}
    for size in (None, 4, 12):
        params = trained(change, "flip-75", micro_batch=size).model_copy(update={"cost": change("clip").cost})
        params = params.model_copy(update={"cost": params.cost.model_copy(update={"batch": 10})})
        flops[size] = Step(params, small_data, read_json(small_data / "manifest.json"), "cpu").flops_per_sample()
    assert flops[4] == pytest.approx(flops[12], rel=0.05)
    assert flops[4] == pytest.approx(4 / 3 * flops[None], rel=0.1)


@pytest.mark.parametrize("settings", [{}, {"micro_batch": 8}, {"precision": "bfloat16"}])
def test_recomputed_activations_change_no_bit(change, small_data, settings):
    runs = [
        make_run(trained(change, "flip-75-mae", checkpoint_activations=on, **settings), small_data)
        for on in (False, True)
    ]
    for run in runs:
        advance(run, 3)
    assert all(torch.equal(tensor, weights(runs[1])[name]) for name, tensor in weights(runs[0]).items())


def held(change, data, **settings):
    """Bytes of the tensors that a step's graph keeps for the way back, parameters aside."""
    deep = {"vision": {"layers": 6, "width": 16, "heads": 2}}
    params = change("flip-75", {**SMALL, "model": {**SMALL["model"], **deep}, "train": {**SMALL["train"], **settings}})
    run = make_run(params, data)
    own = {parameter.data_ptr() for parameter in run.model.parameters()}
    found = {}

    def keep(tensor):
        if tensor.data_ptr() not in own:
            found[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = run.losses(run.loader.batch(0, 8))
    assert sum(losses.values()).requires_grad
    return sum(found.values())


def test_recomputed_activations_are_not_held(change, small_data):
    assert held(change, small_data, checkpoint_activations=True) < 0.3 * held(change, small_data)


def test_recomputing_asks_for_new_costs_and_no_new_training(project):
    changed = Project(copy.deepcopy(project.tree), project.scale)
    changed.tree["base"]["train"]["checkpoint_activations"] = True
    before, after = (specs(one, Path("rules")) for one in (project, changed))
    at = Layout(project.scale)
    frozen = {at.project, *map(at.params, project.variants)}
    differ = {path for path in before if before[path] != after[path]} - frozen
    timed = {at.specs.step_time(name) for name, params in project.variants.items() if params.train.equal_time}
    assert differ == timed | {at.specs.tables(report, "cost") for report in project.reports}
