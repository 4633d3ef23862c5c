"""A locked image tower keeps its bits and costs nothing: no gradients, no optimizer state, no pixels. Training from
features that were computed once equals training that computes them in each step, over restarts and processes, too."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.data.feature_cache import FACTS, FeatureCache, features_path
from flip.data.shard import read_index
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.losses import build_towers
from flip.model.weights import load_weights, save_weights
from flip.report.costs import cost
from flip.train import __main__ as pretrain
from flip.train import precompute_features as embed
from flip.train.guards import Interrupted
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from flip.train.step_cost import Step
from tests.conftest import SMALL
from tests.miniature import copy_workflow, planned, snakemake, write_params
from tests.processes import together
from tests.test_params import broken

BROKEN = (1, 5)  # shard and item of an image that is none


@pytest.fixture(scope="module")
def data(small_data, tmp_path_factory):
    """The little set, with a broken image."""
    folder = shutil.copytree(small_data, tmp_path_factory.mktemp("locked") / "data")
    path = folder / "shards" / read_json(folder / "manifest.json")["shards"][BROKEN[0]]["name"]
    start, size, *_ = read_index(path)[BROKEN[1]]
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def tower(change, data):
    """Weights of a trained model: a file."""
    params = change("clip", SMALL)
    run = TrainingRun(params, *parts(params, data), 20, 0, ProcessGroup())
    batches = run.batches()
    for _ in range(3):
        run.step(next(batches))
    save_weights(data / "clip.safetensors", run.model.state_dict())
    return data / "clip.safetensors"


@pytest.fixture(scope="module")
def features(change, data, tower):
    """The folder that `python -m flip.train.precompute_features` makes."""
    write_atomic(data / "clip.yaml", dump(change("clip", SMALL)))
    words = ["--params", data / "clip.yaml", "--data", data, "--weights", tower, "--out", data / "features"]
    embed.main([str(word) for word in words])
    return data / "features"


def parts(params, data, given=None, tower=None):
    """Loader and model of a run."""
    manifest = read_json(data / "manifest.json")
    found = given and FeatureCache(given, manifest, file_hash(tower), params.embedding)
    loader = build_loader(params, data, manifest, 0, features=found)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu")
    if tower:
        load_weights(tower, model.image_tower, strict=False)
    return loader, model


def trained(params, data, tower, given=None, steps=15):
    run = TrainingRun(params, *parts(params, data, given, tower), 20, 0, ProcessGroup())
    batches = run.batches()
    for _ in range(steps):
        run.step(next(batches))
    return run


@pytest.mark.parametrize("variant", ["lit", "siglit"])
def test_features_computed_once_train_as_the_tower_in_each_step(change, data, tower, features, variant):
    params = change(variant, SMALL)
    once, each = trained(params, data, tower, features), trained(params, data, tower)
    for name, weight in each.model.state_dict().items():
        torch.testing.assert_close(once.model.state_dict()[name], weight, rtol=1e-6, atol=1e-7)
    assert once.loader.images.broken == each.loader.images.broken == 1  # an epoch
    before = load_file(tower)
    for name, weight in once.model.image_tower.state_dict().items():
        assert torch.equal(weight, before[name])
    assert not torch.equal(once.model.text_projection.weight, before["text_projection.weight"])


def test_no_gradient_no_graph_and_no_state_for_the_tower(change, data, tower, features):
    run = trained(change("lit", SMALL), data, tower, features, steps=1)
    tensors = {id(p) for p in run.model.image_tower.parameters()}
    assert tensors.isdisjoint(id(p) for group in run.optimizer.param_groups for p in group["params"])
    assert not any(name.startswith(("vision.", "image_projection.")) for name in run.state()["optimizer"]["state"])
    outputs = run.outputs(run.loader.batch(0, 4))
    assert outputs["text"].requires_grad
    assert not outputs["image"].requires_grad
    pixels = trained(change("lit", SMALL), data, tower, steps=1)
    assert not pixels.outputs(pixels.loader.batch(0, 4))["image"].requires_grad


def test_no_image_is_read(change, data, features, tower, monkeypatch):
    loader, _ = parts(change("lit", SMALL), data, features, tower)
    monkeypatch.setattr("flip.data.loader.decode_crops", None)
    assert loader.batch(0, 8)["features"].shape == (8, 16)


def test_features_are_those_of_whole_images_and_nan_where_there_is_none(change, data, tower, features):
    manifest = read_json(data / "manifest.json")
    found = FeatureCache(features, manifest, file_hash(tower), 16)
    assert [len(found(number)) for number in range(3)] == [shard["samples"] for shard in manifest["shards"]]
    nothing = np.argwhere(np.isnan(found(BROKEN[0])).all(1)).ravel().tolist()
    assert nothing == [BROKEN[1]]
    loader, model = parts(change("lit", SMALL), data, None, tower)
    images = loader.batch(0, 4)["images"]
    rows = np.stack([found(number)[item] for number, item in map(loader.order.locate, range(4))])
    torch.testing.assert_close(model.encode_image(images), torch.from_numpy(rows), rtol=1e-5, atol=1e-6)


def test_features_in_bfloat16_keep_their_digits_in_two_bytes(change, tower):
    params = change("clip", {**SMALL, "train": {**SMALL["train"], "precision": "bfloat16"}})
    made = embed.ImageEncoder(params, tower, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    found = made(images)
    assert found.dtype == np.float16
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(made.model.encode_image(torch.from_numpy(images)).half(), torch.from_numpy(found))


def test_a_step_costs_no_image_tower(change, data):
    manifest = read_json(data / "manifest.json")
    locked, whole = (Step(change(name, SMALL), data, manifest, "cpu").flops_per_sample() for name in ("lit", "clip"))
    assert locked < 0.4 * whole


def test_an_interrupted_embedding_goes_on_with_what_is_missing(change, data, tower, tmp_path, monkeypatch):
    manifest, params = read_json(data / "manifest.json"), change("clip", SMALL)
    made = embed.ImageEncoder(params, tower, "cpu")
    stop = tmp_path / "stop"
    stop.touch()
    monkeypatch.setenv("FLIP_STOP_FILE", str(stop))
    with pytest.raises(Interrupted, match="stopped after 40 images"):
        embed.embed(made, data, manifest, ProcessGroup(), tmp_path)
    monkeypatch.delenv("FLIP_STOP_FILE")
    first, *others = (features_path(tmp_path, shard["name"]) for shard in manifest["shards"])
    assert not any(path.exists() for path in others)
    os.utime(first, (1, 1))
    for rank in (0, 1):  # two processes share what is left
        embed.embed(made, data, manifest, ProcessGroup(rank, 2), tmp_path)
    assert first.stat().st_mtime == 1
    assert all(path.exists() for path in others)


def test_the_command_trains_to_whole_weights(change, data, tower, features):
    params, out = change("lit", {**SMALL, "train": {**SMALL["train"], "epochs": 2.0}}), data / "lit"
    write_atomic(data / "lit.yaml", dump(params))
    words = ["--params", data / "lit.yaml", "--data", data, "--seed", 0, "--image-tower", tower, "--out", out]
    words += ["--features", features, "--checkpoints", out / "checkpoints"]
    pretrain.main([str(word) for word in words])
    vocabulary = parts(params, data)[0].captions.tokens.tokenizer.vocabulary
    load_weights(out / "weights.safetensors", build_towers(params, vocabulary))
    theirs = load_file(tower)
    for name, weight in load_file(out / "weights.safetensors").items():
        assert torch.equal(weight, theirs[name]) == name.startswith(("vision.", "image_projection.")), name
    assert read_json(out / "training.json")["broken_images"] >= 0


def test_a_resumed_run_has_the_same_bits(change, data, tower, features):
    params = change("siglit", SMALL)
    whole, first = (trained(params, data, tower, features, steps) for steps in (9, 4))
    second = trained(params, data, tower, features, 0)
    second.restore(first.state())
    batches = second.batches()
    for _ in range(5):
        second.step(next(batches))
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name


def gradients(world, params, data, features, tower):
    loader, model = parts(params, data, features, tower)
    run = TrainingRun(params, loader, model.double(), 20, 0, world)
    batch = next(run.batches())
    losses = run.gradients(batch | {name: x.double() for name, x in batch.items() if name == "features"})
    run.update(losses)
    found = {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
    whole = {name: (x.full_tensor() if hasattr(x, "full_tensor") else x).clone() for name, x in found.items()}
    return {name: world.sum(loss) for name, loss in losses.items()}, whole


@pytest.mark.parametrize("settings", [{}, {"micro_batch": 2}, {"shard_weights": True}])
@pytest.mark.parametrize("variant", ["lit", "siglit-unlocked"])
def test_two_processes_are_as_one(change, data, tower, features, variant, settings):
    params = change(variant, {**SMALL, "train": {**SMALL["train"], **settings}})
    given = features if params.features else None
    losses, expected = gradients(ProcessGroup(), change(variant, SMALL), data, given, tower)
    assert any(name.startswith("vision.") for name in expected) == (variant == "siglit-unlocked")
    for found, each in together(2, gradients, params, data, given, tower):
        for name, loss in losses.items():
            torch.testing.assert_close(found[name], loss, rtol=1e-10, atol=0)
        assert each.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (each[name] - gradient).norm() <= 1e-10 * gradient.norm(), name


def test_an_unlocked_tower_learns_slowly_and_does_not_decay(change, data, tower):
    run = trained(change("siglit-unlocked", SMALL), data, tower, steps=3)
    ordinary, *_, slow = run.optimizer.param_groups
    assert {id(p) for p in slow["params"]} == {id(p) for p in run.model.image_tower.parameters()}
    assert slow["lr"] == pytest.approx(0.1 * ordinary["lr"])
    assert (slow["weight_decay"], ordinary["weight_decay"]) == (0, 0.2)
    before = load_file(tower)
    assert not torch.equal(run.model.vision.embed.weight, before["vision.embed.weight"])
    torch.testing.assert_close(run.model.vision.embed.weight, before["vision.embed.weight"], rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("variant", "delta", "message"),
    [
        ("lit", {"masking": {"image": 0.5}}, r"masking.image = 0.5: the features of a locked .* allowed: 0.0"),
        ("lit", {"simclr": {"weight": 1.0}}, "simclr.weight = 1.0: the features of a locked .* allowed: 0.0"),
        ("lit", {"augmentation": {"crop_area": [0.5, 1.0]}}, r"augmentation.crop_area = \[0.5, 1.0\]: .*\[1.0, 1.0\]"),
        ("lit", {"augmentation": {"flip": True}}, "augmentation.flip = True: .* allowed: False"),
        ("clip", {"image_tower": {"lr_scale": 0.0}}, "image_tower: lr_scale = 0.0 is for a trained tower"),
        ("clip", {"image_tower": {"weights": "flip-50", "lr_scale": 2.0}}, "lr_scale: .*less than or equal to 1"),
        ("lit", {"image_tower": {"weights": "flop-50"}}, "image_tower.weights: .*'flop-50'; did you mean 'flip-50'"),
        ("siglit", {"image_tower": {"weights": "lit"}}, "'lit' has its image tower from 'clip-short'; name that one"),
        ("lit", {"image_tower": {"weights": "siglip"}}, "model.embedding is 96 in 'siglip' and 256 here"),
        ("lit", {"model": {"patch": 16}}, "lit.image_tower.weights: model.patch is 8 in 'clip-short' and 16 here"),
        ("lit", {"start": "flip-50"}, "start = 'flip-50' and image_tower.weights = 'clip-short' both say where"),
    ],
)
def test_what_makes_no_sense_is_refused(project, variant, delta, message):
    from flip.config.frozen import merge

    tree = merge(project.tree["variants"][variant], delta)
    with pytest.raises(ParameterError, match=message):
        broken(project, ["variants", variant], tree).check()


def test_what_a_training_builds_on_is_trained_and_paid_for(project):
    chosen = broken(project, ["variants", "lit", "image_tower", "weights"], "flip-50-tuned")
    chosen.tree["tables"] = {"a": {"title": "A", "report": "systems", "variants": ["lit"], "metrics": ["fine"]}}
    chosen = chosen.of("systems")
    assert chosen.named == ["lit", "flip-50", "flip-50-tuned"]
    runs = {name: SimpleNamespace(params=chosen.variants[name], samples=100) for name in chosen.named}
    measured = {"flops_per_sample": 2.0, "relative_rounds": [1.0], "peak_memory_bytes": 1, "batch": 16}
    found = cost("lit", SimpleNamespace(runs=runs, cost={"variants": dict.fromkeys(runs, measured)}))
    assert (found.samples, found.total_flops) == (300, 600)


def test_features_of_others_and_wrong_options_are_named(change, data, tower, features, tmp_path, capsys):
    manifest = read_json(data / "manifest.json")
    with pytest.raises(ValueError, match=r"features.json: weights .* expected 00; delete"):
        FeatureCache(features, manifest, "00", 16)
    with pytest.raises(ValueError, match=r"00000.npy: shape \(40, 16\), expected \(40, 24\)"):
        FeatureCache(features, manifest, file_hash(tower), 24)
    write_json(tmp_path / FACTS, read_json(features / FACTS))
    with pytest.raises(ValueError, match=r"00000.npy: cannot be read"):
        FeatureCache(tmp_path, manifest, file_hash(tower), 16)
    write_atomic(tmp_path / "lit.yaml", dump(change("lit", SMALL)))
    words = [
        "--params",
        tmp_path / "lit.yaml",
        "--data",
        data,
        "--seed",
        0,
        "--out",
        tmp_path,
        "--checkpoints",
        tmp_path,
    ]
    with pytest.raises(SystemExit):
        pretrain.main([str(word) for word in words])
    assert "--image-tower None: the parameters say image_tower.weights = clip" in capsys.readouterr().err


def test_a_tower_from_a_file_is_embedded_after_the_data_alone(tmp_path):
    def from_file(tree):
        tree["variants"]["lit"]["image_tower"]["weights"] = "sources/tower.safetensors"
        tree["scales"]["tiny"]["seeds"] = [0]
        return tree

    folder = copy_workflow(tmp_path)
    write_params(folder, from_file)
    words = ("-n", "variant", "--config", "variant=lit")
    assert "sources/tower.safetensors" in snakemake(folder, *words, check=False)
    (folder / "sources").mkdir()
    (folder / "sources" / "tower.safetensors").touch()
    jobs = planned(snakemake(folder, *words))
    assert (jobs["embed"], jobs["pretrain"]) == (1, 1)
