"""Training learns, repeats bit for bit, and goes on from a state as if nothing had been."""

import math

import pytest
import torch

from flip.files import read_json
from flip.model.weights import load_weights, save_weights
from flip.train.optimizer import learning_rate, parameter_groups
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model, count_steps
from tests.conftest import SMALL
from tests.variants import EVERY_KIND


def make_run(params, data, seed=0):
    manifest = read_json(data / "manifest.json")
    loader = build_loader(params, data, manifest, seed)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, seed, "cpu")
    return TrainingRun(params, loader, model, count_steps(params, manifest["samples"]), seed, ProcessGroup(), data)


def advance(run, steps):
    batches = run.batches()
    losses = [run.step(next(batches)) for _ in range(steps)]
    batches.close()
    return losses


def weights(run):
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


@pytest.mark.parametrize("variant", [*EVERY_KIND, "sigmoid", "clip-max", "flava-init", "mae-class"])
def test_every_variant_learns(change, small_data, variant):
    """The plain colours of the little set are told apart within a few epochs."""
    run = make_run(change(variant, SMALL), small_data)
    losses = [next(iter(step.values())).item() for step in advance(run, 45)]
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("variant", ["flip-50", "m3ae", "mae-clip"])
def test_bfloat16_learns_too_and_keeps_float32_weights(change, small_data, variant):
    run = make_run(change(variant, {**SMALL, "train": {**SMALL["train"], "precision": "bfloat16"}}), small_data)
    losses = [next(iter(step.values())).item() for step in advance(run, 45)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}


@pytest.mark.parametrize("variant", ["flip-75-mae", "sigmoid-noise", "m3ae", "mae-clip", "flava", "coca"])
def test_a_resumed_run_has_the_same_bits(change, small_data, variant):
    params = change(variant, SMALL)
    whole = make_run(params, small_data)
    advance(whole, 9)
    first = make_run(params, small_data)
    advance(first, 4)
    second = make_run(params, small_data)
    second.restore(first.state())
    advance(second, 5)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(second)[name]), name
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(first).values(), strict=True))


def test_the_log_has_the_bias_of_a_loss_that_learns_one(change, small_data):
    runs = {
        name: make_run(change(name, SMALL), small_data) for name in ("clip", "sigmoid-no-bias", "sigmoid-fixed-bias")
    }
    rows = {name: run.record(advance(run, 3)[-1], 1.0) for name, run in runs.items()}
    assert [name for name, row in rows.items() if "bias" in row] == ["sigmoid-fixed-bias"]
    assert 0 < abs(rows["sigmoid-fixed-bias"]["bias"] + 10) < 1


def test_seeds_differ_and_repeat(change, small_data):
    a, b, c = (make_run(change("flip-50", SMALL), small_data, seed) for seed in (0, 0, 1))
    for run in (a, b, c):
        advance(run, 2)
    assert torch.equal(weights(a)["log_scale"], weights(b)["log_scale"])
    assert not torch.equal(weights(a)["log_scale"], weights(c)["log_scale"])


def test_the_batch_split_does_not_change_the_reconstruction(change, small_data):
    """Masks follow the sample, not the batch: the mean over two halves is the loss of the whole."""
    run = make_run(change("flip-75-mae", SMALL), small_data)
    whole = run.loader.batch(0, 16)
    halves = [run.loader.batch(start, 8) for start in (0, 8)]
    loss = [run.losses(part)["reconstruction"] for part in (whole, *halves)]
    torch.testing.assert_close(loss[0], (loss[1] + loss[2]) / 2, rtol=1e-5, atol=0)


def test_schedule_warms_up_and_falls_to_zero(change):
    train = change().train
    total = 100 * train.warmup_samples
    assert learning_rate(train, 0, total) == 0
    assert learning_rate(train, train.warmup_samples // 2, total) == pytest.approx(train.peak_lr / 2)
    assert learning_rate(train, train.warmup_samples, total) == pytest.approx(train.peak_lr)
    middle = (total + train.warmup_samples) // 2
    assert learning_rate(train, middle, total) == pytest.approx(train.peak_lr / 2)
    assert learning_rate(train, total, total) == pytest.approx(0, abs=1e-12)


def test_the_papers_learning_rates_come_out(project):
    from flip.config.resolve import read_project

    paper = read_project("params.yaml", "laion400m").variants
    rates = [paper[name].train.peak_lr for name in ("clip", "flip-50", "flip-75")]
    assert rates == pytest.approx([2.56e-4, 5.12e-4, 1.024e-3])
    assert [paper[name].kept_patches for name in ("clip", "flip-50", "flip-75")] == [196, 98, 49]
    assert paper["flip-75-tuned"].train.peak_lr == pytest.approx(1.024e-5)


def test_gains_biases_positions_and_temperature_do_not_decay(change, small_data):
    model = make_run(change("flip-75-mae", SMALL), small_data).model
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, 0.2))
    assert decayed | plain == set(names.values())
    assert "log_scale" in plain
    assert "text.positions.weight" in plain
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)


def test_a_batch_larger_than_the_data_is_refused(change, small_data):
    with pytest.raises(ValueError, match=r"train.batch x train.batch_scale = 128 .*\(120 pairs\).*allowed: 1 to 120"):
        count_steps(change("clip", {"train": {"batch": 128}}), 120)
    with pytest.raises(ValueError, match=r"batch_scale = 32 .*\(30 pairs\).*raise train.data_share"):
        count_steps(change("clip", {"train": {"batch": 32, "data_share": 0.25}}), 120)


def test_a_warmup_without_end_is_refused(change):
    with pytest.raises(ValueError, match=r"train\.warmup_samples x train\.warmup_scale = 4500"):
        count_steps(change(), 1000)


def test_weights_of_another_shape_are_refused(change, small_data, tmp_path):
    run = make_run(change("flip-50", SMALL), small_data)
    save_weights(tmp_path / "w.safetensors", run.model.state_dict())
    other = build_model(change("flip-50", SMALL | {"model": {**SMALL["model"], "embedding": 24}}), 50, 0, "cpu")
    with pytest.raises(ValueError, match=r"w.safetensors: '.*' has shape .*, the model asks for"):
        load_weights(tmp_path / "w.safetensors", other)
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_weights(tmp_path / "w.safetensors", run.model)


def test_tuning_leaves_the_decoder_behind(change, small_data, tmp_path):
    run = make_run(change("flip-75-mae", SMALL), small_data)
    save_weights(tmp_path / "w.safetensors", run.model.state_dict())
    plain = make_run(change("flip-75", SMALL), small_data).model
    with pytest.raises(ValueError, match=r"the model does not have: decoder"):
        load_weights(tmp_path / "w.safetensors", plain)
    load_weights(tmp_path / "w.safetensors", plain, strict=False)
    assert torch.equal(plain.vision.embed.weight, run.model.vision.embed.weight)
