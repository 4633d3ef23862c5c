"""What blocks compute with changes how fast a step is, not what it is: compiled functions give the same losses and
gradients, for any number of words and without compiling again; float8 is what its definition says."""

import os
import shutil
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
from torch import nn

from benchmarks import waits
from flip.config.schema import Tower
from flip.files import read_json
from flip.plan import counting
from flip.train.compile import blocks, compile_blocks, fits, multiply_in_float8
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun
from flip.train.step_cost import Step
from tests.conftest import SMALL
from tests.processes import together
from tests.test_distributed import assert_same_step, parameters, step
from tests.test_train import advance, make_run, weights

# Torch asks and hides the warning by itself, where warnings are no errors.
pytestmark = [
    pytest.mark.long(2),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated"),
]
LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


@pytest.fixture(autouse=True)
def afresh():
    """Each test compiles for itself."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend of torch.compile that runs what it is given as it is, and counts."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        from torch._dynamo.backends.debugging import aot_eager

        self.graphs += 1
        return aot_eager(graph, inputs)


def changed(change, variant, **train):
    return change(variant, {**SMALL, "train": {**SMALL["train"], **train}})


def gradients(run, start):
    losses = run.gradients(run.loader.batch(start, 16))
    return losses, {name: one.grad for name, one in run.model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("clip", {}),
        ("clip-form", {}),
        ("siglip", {}),
        ("text-random", {}),
        ("flip-75-mae", {"micro_batch": 8}),
        ("clip-form", {"micro_batch": 8, "checkpoint_activations": True}),
        ("m3ae", {}),
        ("flava", {}),
        ("coca", {}),
        ("captioner-parallel", {"checkpoint_activations": True}),
    ],
)
def test_compiled_blocks_compute_the_same_and_once(change, small_data, variant, settings):
    """No graph is broken (or compiling would be an error), and batches with other numbers of words need no new one."""
    params, backend = changed(change, variant, batch=16, **settings), Counting()
    plain, compiled = (make_run(params, small_data) for _ in range(2))
    compile_blocks(compiled.model, "cpu", backend)
    graphs = []
    for start in (0, 16, 48, 96):
        (losses, found), (expected, whole) = gradients(compiled, start), gradients(plain, start)
        graphs.append(backend.graphs)
        assert losses.keys() == expected.keys()
        assert found.keys() == whole.keys()
        for name, loss in expected.items():
            torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-6)
        for name, gradient in whole.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert graphs[0] > 1
    assert graphs[-1] == graphs[-2], "the fourth batch was compiled again"
    assert graphs[-1] < 16


STEPS = waits.ways()


@pytest.mark.parametrize("way", STEPS)
def test_no_step_waits_for_its_device(way):
    """On a device without values a step ends all the same, and is given nothing but its batch."""
    assert waits.count(STEPS[way]).copies == []


@pytest.mark.parametrize("way", ["flip-50", "text-random", "m3ae", "flava"])
def test_no_micro_batch_waits_for_its_device(way):
    assert waits.count(waits.changed(STEPS[way], "train", micro_batch=4)).copies == []


def test_what_would_wait_is_found(monkeypatch):
    """A number of the losses, as a logger may ask for it; what is put where a mask says; a table from elsewhere."""
    params, backward, table = STEPS["clip"], TrainingRun.backward, torch.ones(3)
    for slip, message in (
        (lambda loss: loss.item(), "item"),
        (lambda loss: loss.expand(2).cpu(), "no data"),
        (lambda loss: loss.expand(2)[loss.expand(2) > 0], "nonzero"),
        (lambda loss: loss.repeat(2).index_put((loss.repeat(2) > 0,), loss.repeat(2)), "an index by a mask"),
    ):
        monkeypatch.setattr(TrainingRun, "backward", lambda run, batch, slip=slip: _after(backward(run, batch), slip))
        with pytest.raises((RuntimeError, NotImplementedError), match=message):
            waits.count(params)
    monkeypatch.setattr(TrainingRun, "backward", lambda run, batch: _after(backward(run, batch), table.to("meta").mul))
    assert len(waits.count(params).copies) == 1


def _after(losses, slip):
    slip(next(iter(losses.values())))
    return losses


@pytest.mark.parametrize("way", STEPS)
def test_each_step_has_its_shapes_in_bfloat16_too(way):
    """Products of 16 bits, losses, gradients and weights of 32."""
    params = waits.changed(STEPS[way], "train", precision="bfloat16")
    with counting.values_unread():
        run = TrainingRun(params, SimpleNamespace(), counting.make_model(params), 10**9, 0, ProcessGroup())
        losses = run.gradients(counting.make_batch(params, waits.PAIRS))
        run.update(losses)
        gradients = [one.grad for one in run.parameters if one.grad is not None]
        assert {one.dtype for one in (*losses.values(), *gradients)} == {torch.float32}


@pytest.fixture
def as_it_was():
    """What torch computes with is the process's."""
    yield
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("way", ["clip", "slip", "m3ae", "flava"])
def test_the_same_bits_each_time_can_be_asked_for(way, as_it_was, monkeypatch):
    """Nothing that a step computes is without such a form, as far as a processor can tell; cuBLAS is told, too."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    params = waits.changed(STEPS[way], "train", deterministic=True)
    run = TrainingRun(params, SimpleNamespace(), counting.make_model(params), 10**9, 0, ProcessGroup())
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    run.step(waits.host_batch(params))
    TrainingRun(STEPS[way], SimpleNamespace(), run.model, 10**9, 0, ProcessGroup())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float32"])
def test_tf32_is_for_those_who_ask_for_it(precision, as_it_was):
    """Activations stay float32."""
    params = waits.changed(STEPS["clip"], "train", precision=precision)
    TrainingRun(params, SimpleNamespace(), counting.make_model(params), 10**9, 0, ProcessGroup())
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert params.train.autocast == ("bfloat16" if precision == "bfloat16" else "float32")


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile calls")
@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile cannot link to a torch whose path has a space")
def test_a_run_is_compiled_as_its_parameters_say(change, small_data):
    """By torch's own compiler: it learns what the other learns, its state is the other's, and goes over to it."""
    plain, compiled = (
        make_run(changed(change, "mae", batch=16, compile=compile), small_data) for compile in (False, True)
    )
    for a, b in zip(advance(plain, 3), advance(compiled, 3), strict=True):
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=0)
    assert weights(plain).keys() == weights(compiled).keys()
    assert all("forward" in vars(one) for one in blocks(compiled.model))
    after = make_run(changed(change, "mae", batch=16), small_data)
    after.restore(compiled.state())
    for name, tensor in weights(compiled).items():
        assert torch.equal(tensor, weights(after)[name]), name


def test_where_nothing_can_be_compiled_training_goes_on_and_says_so_once(change, small_data):
    run = make_run(changed(change, "clip"), small_data)

    def broken(graph, inputs):
        raise RuntimeError("no compiler here\nand more")

    with pytest.warns(UserWarning, match=r"train.compile: nothing can be compiled here \(.*\); training goes") as told:
        compile_blocks(run.model, "cpu", broken)
    assert len(told) == 1
    assert not any("forward" in vars(one) for one in blocks(run.model))
    advance(run, 1)


@pytest.mark.parametrize("settings", [{}, {"shard_weights": True, "micro_batch": 4, "checkpoint_activations": True}])
def test_processes_that_share_a_batch_compile_too(change, small_data, monkeypatch, settings):
    monkeypatch.setattr("flip.train.compile.compile_blocks", partial(compile_blocks, backend="aot_eager"))
    expected = step(ProcessGroup(), parameters(change, "clip-form"), small_data)
    for found in together(2, step, parameters(change, "clip-form", compile=True, **settings), small_data):
        assert_same_step(found, expected)


def graphs(world, params):
    """How many graphs the blocks of a step are."""
    run = TrainingRun(params, SimpleNamespace(), counting.make_model(params), 10**9, 0, world)
    compile_blocks(run.model, "cpu", backend := Counting())
    run.step(waits.host_batch(params))
    return backend.graphs


def test_a_block_is_one_graph_where_gradients_travel_meanwhile(change):
    """DDP sends gradients by the megabyte, of which a block of this width has seven."""
    wide = {"vision": {"layers": 2, "width": 384, "heads": 6}}
    params = changed(change, "mae", batch=waits.PAIRS)
    params = waits.changed(params, "model", vision=change("mae", {"model": wide}).model.vision)
    assert together(2, graphs, params) == 2 * [graphs(ProcessGroup(), params)]


@pytest.mark.filterwarnings("ignore:train.precision. float8.*emulated")
def test_a_steps_flops_are_those_of_its_plain_form(change, small_data, monkeypatch):
    monkeypatch.setattr("flip.train.compile.compile_blocks", partial(compile_blocks, backend="aot_eager"))
    manifest, flops = read_json(small_data / "manifest.json"), []
    for settings in ({}, {"compile": True}, {"precision": "float8"}):
        step_of = Step(changed(change, "flip-50", **settings), small_data, manifest, "cpu")
        flops.append(step_of.flops_per_sample())
    assert flops[0] > 0
    assert flops == flops[:1] * 3


def rounded(x, dtype):
    """By the definition: scaled so that the largest value is the largest that there is, rounded, scaled back."""
    scale = LARGEST[dtype] / x.abs().max().clamp(min=1e-12)
    return (x * scale).to(dtype).float() / scale


def test_float8_products_are_those_of_rounded_numbers():
    """Forth with four bits of exponent; back, with five for gradients; sums, biases and what is not a multiple of 16 as
    they were."""
    torch.manual_seed(0)
    from flip.config.resolve import read_project
    from flip.model.transformer import Block

    form = read_project().variants["clip-form"].form.vision
    model = nn.ModuleList([Block(Tower(layers=1, width=48, heads=3), form, causal=False)])
    layer = model[0].mlp[0]
    weight, bias = layer.weight, layer.bias
    nn.init.normal_(bias)
    with pytest.warns(UserWarning, match="they are emulated") as told:
        multiply_in_float8(model, torch.device("cpu"))
    assert len(told) == 1
    layer = model[0].mlp[0]
    assert layer.weight is weight
    assert layer.bias is bias
    x = (3 * torch.randn(37, 48)).requires_grad_()  # 37 words
    gradient, e4m3 = torch.randn(37, 192), torch.float8_e4m3fn
    y = layer(x)
    y.backward(gradient)
    torch.testing.assert_close(y, rounded(x, e4m3) @ rounded(weight, e4m3).T + bias, rtol=1e-5, atol=1e-5)
    back = rounded(gradient, torch.float8_e5m2)
    torch.testing.assert_close(x.grad, back @ rounded(weight, e4m3), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weight.grad, back.T @ rounded(x.detach(), e4m3), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(bias.grad, gradient.sum(0), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(y, x @ weight.T + bias, rtol=1e-3, atol=1e-3)
    assert [fits(nn.Linear(*sides)) for sides in ((48, 96), (48, 40), (40, 48))] == [True, False, False]


@pytest.mark.filterwarnings("ignore:train.precision. float8.*emulated")
@pytest.mark.parametrize("variant", ["flip-50", "m3ae"])
def test_float8_learns_too_and_keeps_names_and_float32_weights(change, small_data, variant):
    run = make_run(changed(change, variant, precision="float8"), small_data)
    plain = make_run(changed(change, variant), small_data)
    losses = [next(iter(step.values())).item() for step in advance(run, 45)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert {name: one.dtype for name, one in weights(run).items()} == {
        name: one.dtype for name, one in weights(plain).items()
    }
    loss = next(iter(advance(plain, 45)[0].values())).item()
    assert 0 < abs(losses[0] - loss) < 0.05 * loss


def test_float8_without_torchao_says_what_to_do(change, small_data, monkeypatch):
    run = make_run(changed(change, "clip"), small_data)
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    params = changed(change, "clip", precision="float8")
    with pytest.raises(ValueError, match=r"train.precision: float8 needs torchao; pip install 'flip\[gpu\]'"):
        TrainingRun(params, run.loader, run.model, 3, 0, ProcessGroup())
