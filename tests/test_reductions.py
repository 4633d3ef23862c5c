"""Every way to leave tokens out trains alike on several processes, in parts of a batch and after a restart, and a step
neither waits for the device nor is left uncounted."""

import shutil
import warnings

import pytest
import torch

from benchmarks.waits import PAIRS, count
from flip.config.faults import ParameterError
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
    "flip-50-two-views",
    "flip-50-attentive-two-views",
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
    delta = {**SMALL, "model": model, "masking": {"momentum": 0.5} if "attentive" in variant else {}}
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
    assert bool(looking) == ("attentive" in variant)
    for name in looking:
        tower = expected["model"][name.replace("looking.", "vision.")]
        assert not torch.equal(expected["model"][name], tower), name


@pytest.mark.parametrize("variant", REDUCED)
def test_a_step_does_not_wait_and_is_counted(project, variant):
    """Masks by pixels cost about nothing, and the tower that looks as much as it computes, for each view; a second view
    costs an image tower; merging saves at evaluation, too."""
    warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
    params = changed(project.resolve(variant), "train", batch=PAIRS, batch_scale=1)
    assert count(params).copies == []
    before = "flip-75" if variant.startswith("text") else "flip-50"
    plain = changed(project.resolve(before), "train", batch=PAIRS, batch_scale=1)
    flops, others = (step_flops(work(one)) for one in (params, plain))
    image, whole = encoding(params).image, encoding(plain).image
    looks = PAIRS * whole * variant.count("attentive") * (1 + variant.count("two-views"))
    least, most = (1.5, 2.0) if "two-views" in variant else (0.0, 1.0) if "text" in variant else (1.0, 1.1)
    assert least * others + 0.95 * looks <= flops <= most * others + 1.1 * looks
    assert (image < 0.7 * whole) == (variant == "flip-50-tome")


def test_two_views_are_two_crops_with_masks_of_their_own_and_one_mean_loss(change, data):
    """The text tower runs once; the loss is the mean of the two that each view alone would have."""
    run = make_run(ProcessGroup(), parameters(change, "flip-50-two-views"), data)
    batch = run.on_device(next(run.batches()))
    assert batch["second"].shape == batch["images"].shape
    assert not torch.equal(batch["second"], batch["images"])
    alone = make_run(ProcessGroup(), parameters(change, "flip-50"), data).loader
    assert torch.equal(alone.batch(0, BATCH)["images"], batch["images"])
    orders = [
        run.model.mask_order(batch["images"], batch["positions"], 0, stream) for stream in ("image", "second image")
    ]
    assert not torch.equal(orders[0].ids_keep, orders[1].ids_keep)
    outputs = run.outputs(batch)
    (loss,) = run.losses(batch).values()
    each = [
        run.objectives["contrastive"](
            batch, {name: outputs[name] for name in ("text", "scale")} | {"image": outputs[view]}
        )
        for view in ("image", "second")
    ]
    torch.testing.assert_close(loss, sum(one["contrastive"] for one in each) / 2)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("mae", "views = 2 is read by losses of pairs alone"),
        ("clip-noise", r"views = 2 cannot be combined with noise\.images = 0\.2"),
        ("slip", r"views = 2 cannot be combined with simclr\.weight = 1"),
    ],
)
def test_two_views_are_refused_where_nothing_would_read_them(change, variant, message):
    with pytest.raises(ParameterError, match=message):
        change(variant, {"masking": {"views": 2}})
