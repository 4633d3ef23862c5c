"""A run begins with exactly the towers that it is told to, of variants that have such towers; a model has only what its
losses read; and the towers of one side's losses learn and are evaluated as far as they can be."""

import pytest
import torch

from flip.config.faults import ParameterError
from flip.config.frozen import dump, merge
from flip.files import read_json, write_atomic
from flip.model.weights import load_weights, save_weights
from flip.train import __main__ as pretrain
from flip.train.loop import Begin
from flip.train.step_cost import Step, Turns
from tests.conftest import SMALL
from tests.test_params import broken
from tests.test_train import advance, make_run, weights

SHORT = {**SMALL, "train": {**SMALL["train"], "epochs": 1.0}}


@pytest.fixture(scope="module")
def towers(change, small_data, tmp_path_factory):
    """Weights of one training each by the losses of one side: files."""
    folder, found = tmp_path_factory.mktemp("towers"), {}
    for side in ("image", "text"):
        run = make_run(change(f"flava-{side}", SMALL), small_data)
        advance(run, 3)
        found[side] = folder / f"{side}.safetensors"
        save_weights(found[side], run.model.state_dict())
    return found


@pytest.mark.parametrize(("variant", "other"), [("flava-image", "text"), ("flava-text", "vision")])
def test_one_sides_loss_builds_and_trains_that_side_alone(change, small_data, variant, other):
    """No tower, projection or scale of the other; every parameter learns, and the loss falls."""
    run = make_run(change(variant, SMALL), small_data)
    assert getattr(run.model, other) is None
    assert not any(name.startswith((other, "log_scale")) or "projection" in name for name in weights(run))
    before, losses = weights(run), [sum(step.values()).item() for step in advance(run, 45)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert not [name for name, tensor in weights(run).items() if torch.equal(tensor, before[name])]


def test_texts_alone_read_no_image(change, small_data, monkeypatch):
    run = make_run(change("flava-text", SMALL), small_data)
    monkeypatch.setattr("flip.data.loader.decode_crops", None)
    assert run.loader.batch(8, 8).keys() == {"ids", "positions"}


def test_a_run_begins_with_both_towers_and_all_else_anew(change, small_data, towers):
    params = change("flava-init", SMALL)
    fresh, model = (make_run(params, small_data).model for _ in range(2))
    Begin(image_tower=towers["image"], text_tower=towers["text"]).load(model)
    trained = {}
    for side in ("image", "text"):
        other = make_run(change(f"flava-{side}", SMALL), small_data).model
        load_weights(towers[side], other)
        trained |= {name: x for name, x in other.state_dict().items() if name.startswith(("vision.", "text."))}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained.pop(name, fresh.state_dict()[name])), name
    assert not trained


def test_such_towers_learn_and_decay_as_all_the_rest(change, small_data):
    run = make_run(change("flava-init", SMALL), small_data)
    assert {group["lr_scale"] for group in run.optimizer.param_groups} == {1.0}
    decayed = {id(one) for one in run.optimizer.param_groups[0]["params"]}
    assert id(run.model.vision.embed.weight) in decayed


def test_a_projection_that_is_there_comes_along(change, small_data, tmp_path):
    params = change("flava-c", SMALL)
    run = make_run(params, small_data)
    save_weights(tmp_path / "w.safetensors", {name: x + 1 for name, x in run.model.state_dict().items()})
    Begin(text_tower=tmp_path / "w.safetensors").load(run.model)
    again = make_run(params, small_data).model
    assert torch.equal(run.model.text_projection.weight, again.text_projection.weight + 1)
    assert torch.equal(run.model.image_projection.weight, again.image_projection.weight)


@pytest.mark.parametrize(
    ("variant", "delta", "message"),
    [
        ("flava-init", {"image_tower": {"weights": "flava-text"}}, "'flava-text' has no image tower; name a variant"),
        ("flava-init", {"text_tower": {"weights": "mae"}}, "text_tower.weights: 'mae' has no text tower"),
        ("flava-init", {"text_tower": {"weights": "clip"}}, "text_tower.weights: form.text.norm_epsilon is 1e-06"),
        ("flava-init", {"model": {"tokens": 32}}, "text_tower.weights: model.tokens is 16 in 'flava-text' and 32 here"),
        ("flava-init", {"captions": {"end": False}}, "captions.end is True in 'flava-text' and False here; they must"),
        ("flava-init", {"text_tower": {"weights": "flav-text"}}, "unknown variant 'flav-text'; did you mean 'flava-"),
        ("flava-init", {"image_tower": {"lr_scale": 0.1}}, "model.embedding is 96 in 'flava-image' and 256 here"),
        ("flava-init", {"start": "flava"}, "start = 'flava' and image_tower.weights = 'flava-image' both say where"),
        ("flava-text", {"image_tower": {"weights": "clip"}}, "image_tower.weights = 'clip': no loss reads that side"),
        ("flava-c", {"text_tower": {"weights": "flava-init"}}, "has its text tower from 'flava-text'; name that one"),
        ("flava-text", {"text_tower": {"weights": "flava-init"}}, "'flava-init' has its text tower from 'flava-text'"),
    ],
)  # fmt: skip
def test_towers_that_do_not_fit_are_refused(project, variant, delta, message):
    tree = merge(project.tree["variants"][variant], delta)
    with pytest.raises(ParameterError, match=message):
        broken(project, ["variants", variant], tree).check()


def test_the_commands_train_from_towers_and_evaluate_what_there_is(change, small_data, towers, tmp_path, capsys):
    write_atomic(tmp_path / "init.yaml", dump(change("flava-init", SHORT)))
    words = ["--params", tmp_path / "init.yaml", "--data", small_data, "--seed", 0, "--out", tmp_path / "out"]
    words += ["--checkpoints", tmp_path / "checkpoints", "--image-tower", towers["image"]]
    with pytest.raises(SystemExit):
        pretrain.main([str(word) for word in words])
    assert "--text-tower None: the parameters say text_tower.weights = flava-text" in capsys.readouterr().err
    pretrain.main([str(word) for word in (*words, "--text-tower", towers["text"])])
    assert read_json(tmp_path / "out" / "training.json")["samples"] == 120
    header, *rows = (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert {len(row.split(",")) for row in rows} == {len(header.split(","))}


def test_a_tower_alone_says_what_it_lacks(change):
    unaligned = {name: change(name).unaligned for name in ("flava-text", "flava-image", "flava")}
    assert unaligned == {"flava-text": "no image tower", "flava-image": "no text tower", "flava": None}


def test_a_mixed_step_costs_the_mean_of_its_kinds(change, small_data):
    manifest = read_json(small_data / "manifest.json")
    params = change("flava-init", SMALL)
    turns = Turns(params, small_data, manifest, "cpu")
    pairs = Step(change("flava", SMALL), small_data, manifest, "cpu").flops_per_sample()
    parts = [(share, step.flops_per_sample()) for share, step in turns.steps]
    assert parts[0] == (0.7, pairs)
    assert turns.flops_per_sample() == pytest.approx(sum(share * flops for share, flops in parts))
    assert max(flops for _, flops in parts[1:]) < 0.5 * pairs
