"""Every way to leave tokens out trains alike on several processes, in parts of a batch and after a restart, and a step
neither waits for the device nor is left uncounted."""

import shutil
import warnings

import pytest
import torch

from benchmarks.waits import PAIRS, count
from flip.data.word_counts import count_words, write_counts
from flip.data.word_table import words_path
from flip.files import read_json
from flip.plan.step import encoding, step_flops
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from flip.train.work import changed, work
from tests.conftest import SMALL
from tests.processes import together

BATCH = 24
REDUCED = (
    "flip-50-cluster",
    "flip-50-pgs",
    "flip-50-attentive",
    "flip-50-tome",
    "text-frequency",
    "text-syntax",
)
# Blocks to merge tokens in, and an average that differs from its tower after a step.
DEEPER = {"layers": 2, "width": 16, "heads": 2}


@pytest.fixture(scope="module")
def data(small_data, tmp_path_factory):
    """The small data, with a file of the words of its captions."""
    folder = tmp_path_factory.mktemp("reduced") / "data"
    shutil.copytree(small_data, folder)
    write_counts(count_words((folder / "captions.txt").read_text().splitlines()), words_path(folder))
    return folder


def parameters(change, variant, **train):
    model = SMALL["model"] | {"vision": DEEPER}
    delta = {**SMALL, "model": model, "masking": {"momentum": 0.5}}
    return change(variant, {**delta, "train": {**SMALL["train"], "batch": BATCH, **train}})


def make_run(world, params, data):
    loader = build_loader(params, data, read_json(data / "manifest.json"), seed=0)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu").double()
    return TrainingRun(params, loader, model, 20, 0, world, data)


def walk(world, params, data, steps, state=None):
    """The state after so many more steps, from another state on."""
    run = make_run(world, params, data)
    if state:
        run.restore(state)
    batches = run.batches()
    for _ in range(steps):
        run.step(next(batches))
    return run.state()


def assert_close(found, expected):
    for name, weight in expected["model"].items():
        torch.testing.assert_close(found["model"][name], weight, rtol=1e-6, atol=1e-9, msg=name)


WAYS = [{"micro_batch": 4}, {"shard_weights": True, "checkpoint_activations": True}]


@pytest.mark.parametrize("variant", REDUCED)
def test_two_processes_and_parts_of_a_batch_train_as_one(change, data, variant):
    expected = walk(ProcessGroup(), parameters(change, variant), data, 3)
    assert_close(walk(ProcessGroup(), parameters(change, variant, micro_batch=8), data, 3), expected)
    for way in ({}, *WAYS) if variant in ("flip-50-attentive", "flip-50-tome") else ({},):
        assert_close(together(2, walk, parameters(change, variant, **way), data, 3)[0], expected)


@pytest.mark.parametrize("variant", REDUCED)
def test_a_restarted_run_ends_with_the_same_bits(change, data, variant):
    params = parameters(change, variant)
    expected = walk(ProcessGroup(), params, data, 4)
    found = walk(ProcessGroup(), params, data, 2, walk(ProcessGroup(), params, data, 2))
    assert found["model"].keys() == expected["model"].keys()
    assert all(torch.equal(found["model"][name], weight) for name, weight in expected["model"].items())
    looking = [name for name in expected["model"] if name.startswith("looking.")]
    assert bool(looking) == (variant == "flip-50-attentive")
    for name in looking:
        tower = expected["model"][name.replace("looking.", "vision.")]
        assert not torch.equal(expected["model"][name], tower), name


@pytest.mark.parametrize("variant", REDUCED)
def test_a_step_does_not_wait_and_is_counted(project, variant):
    """Masks cost a hundredth of a step's FLOPs at most, but for the tower that looks; merging saves at evaluation."""
    warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
    params = changed(project.resolve(variant), "train", batch=PAIRS, batch_scale=1)
    assert count(params).copies == []
    before = "flip-75" if variant.startswith("text") else "flip-50"
    plain = changed(project.resolve(before), "train", batch=PAIRS, batch_scale=1)
    flops, others = (step_flops(work(one)) for one in (params, plain))
    image, whole = encoding(params).image, encoding(plain).image
    if variant == "flip-50-attentive":
        assert others + PAIRS * 0.95 * whole < flops < others + PAIRS * 1.1 * whole
    elif variant != "flip-50-tome":
        assert flops < 1.01 * others
    assert (image < 0.7 * whole) == (variant == "flip-50-tome")
