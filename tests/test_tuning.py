"""A public checkpoint is tuned on pairs of one's own: imported, named as a start, trained whole or by low-rank
additions, and mixed with what it began as."""

import json

import pytest
import torch

from flip.config.faults import ParameterError
from flip.config.frozen import merge, to_yaml
from flip.config.resolve import read_project
from flip.config.sections.train import Lora
from flip.export.exports import export
from flip.export.formats import choose
from flip.export.imports import Checkpoint, convert_checkpoint
from flip.files import read_json
from flip.model.lora import adapt, merged
from flip.pretrained import load
from flip.provenance.layout import Layout
from flip.report.interpolation import mixed
from tests.commands import flip
from tests.miniature import ROOT, copy_workflow, shrink, snakemake, write_params

pytestmark = pytest.mark.long(2)

LORA = Lora(rank=4, alpha=8.0)


def public(trained, project, folder):
    """Make folder/imported/public: what `flip import` makes of a small checkpoint of open_clip's, which is at
    folder/public."""
    model, tokenizer = trained()
    export(model, tokenizer, choose("open_clip", model.params), folder / "public")
    flip_import = Checkpoint("open_clip", folder / "public")
    convert_checkpoint(flip_import, "public", folder / "imported/public", project.baseline)
    return model


def test_low_rank_additions_are_in_the_weights_when_training_has_ended(trained):
    """They change nothing before they are trained; then the merged weights give the features of the adapted model,
    attention to one token alone included, and all that is no matrix of a block is as it was."""
    model, tokenizer = trained()
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    ids = torch.from_numpy(tokenizer(["red image 1", "blue"]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model.encode_image(images), model.encode_text(ids)
    adapt(model, LORA, seed=0)
    torch.testing.assert_close((model.encode_image(images), model.encode_text(ids)), plain, rtol=0, atol=0)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(p.numel() for p in learned) < sum(t.numel() for t in before.values()) / 2
    loss = model.encode_image(images).square().sum() + model.encode_text(ids).square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in learned)
    with torch.no_grad():
        for parameter in learned:
            parameter += 0.05 * torch.randn_like(parameter)
    expected = model.encode_image(images), model.encode_text(ids)
    weights = merged(model.state_dict(), LORA)
    assert weights.keys() == before.keys()
    changed = {name for name, tensor in weights.items() if not torch.equal(tensor, before[name])}
    matrices = ("attention.qkv.weight", "attention.out.weight", "mlp.0.weight", "mlp.2.weight")
    assert changed == {name for name in before if ".blocks." in name and name.endswith(matrices)}
    again, _ = trained()
    again.load_state_dict(weights)
    torch.testing.assert_close((again.encode_image(images), again.encode_text(ids)), expected)


def test_a_mixture_is_the_first_weights_and_the_last_at_its_ends():
    first, last = {"a": torch.rand(3, 2), "b": torch.rand(())}, {"a": torch.rand(3, 2)}
    assert torch.equal(mixed(first, last, 0.0)["a"], first["a"])
    assert torch.equal(mixed(first, last, 1.0)["a"], last["a"])
    torch.testing.assert_close(mixed(first, last, 0.25)["a"], 0.75 * first["a"] + 0.25 * last["a"])
    with pytest.raises(ValueError, match=r"'c' \[1\] is not in the weights that tuning began with"):
        mixed(first, {"c": torch.rand(1)}, 0.5)


@pytest.mark.parametrize(
    ("start", "removed", "message"),
    [
        ("imported/none", None, "none has no params.yaml, weights.safetensors; `flip import --out imported/none`"),
        ("imported/public", "tokenizer.json", "image tower alone; name imported/public/weights.safetensors as image_t"),
        ("clip", "lora", "train.lora adds to trained weights: let start name them"),
    ],
)  # fmt: skip
def test_a_start_that_cannot_be_is_refused_at_once(start, removed, message, trained, project, tmp_path):
    tree = read_project(ROOT / "params.yaml").tree
    public(trained, project, tmp_path)
    if removed == "tokenizer.json":
        (tmp_path / "imported/public/tokenizer.json").unlink()
    begins = {"start": start} if removed != "lora" else {"train": {"lora": {"rank": 2, "alpha": 2.0}}}
    write = tmp_path / "params.yaml"
    tree = {key: value for key, value in tree.items() if key not in ("chosen", "imported")}
    write.write_text(to_yaml(tree | {"variants": tree["variants"] | {"own": begins}}))
    with pytest.raises(ParameterError, match=message):
        read_project(write).check()


def test_a_checkpoint_is_tuned_in_three_commands(trained, project, tmp_path, monkeypatch, capsys):
    """Whole and by low-rank additions, from a file and without network; the curve begins with what the checkpoint
    measures itself and ends with what the tuned variant does; a mixture can be kept, loaded and exported."""
    public(trained, project, tmp_path)
    copy_workflow(tmp_path)
    tuned = {"start": "imported/public", "train": {"epochs": 1.0, "base_lr": 0.01}}
    added = {"train": {"lora": {"rank": 4, "alpha": 8.0}}}

    def changed(tree):
        tree = shrink(tree)
        few = {"fine": "world", "retrieval": "world"}
        tree["scales"]["tiny"]["evaluate"] |= {"sets": few, "probe": ["fine"], "validation_set": None}
        return tree | {"variants": tree["variants"] | {"own": tuned, "own-lora": merge(tuned, added)}}

    write_params(tmp_path, changed)
    receipts = [Layout("tiny").receipts.variant(name, "evaluate", 0) for name in ("own", "own-lora")]
    snakemake(tmp_path, "--cores", "2", *receipts)
    monkeypatch.chdir(tmp_path)
    for variant in ("own", "own-lora"):
        flip("interpolate", variant, "--shares", "0,0.5,1", "--json")
        points = json.loads(capsys.readouterr().out)
        metrics = read_json(f"results/tiny/{variant}/seed-0/metrics.json")["metrics"]
        assert [point.pop("share") for point in points] == [0.0, 0.5, 1.0]
        assert points[-1] == {name: value for name, value in metrics.items() if "probe" not in name}
        assert points[0] != points[-1]
    flip("interpolate", "own", "--shares", "0", "--keep", "1", "--to", "mixed/own")
    ids = load("mixed/own").tokenizer("red")
    features = [load(folder).encode_text(ids) for folder in ("mixed/own", "results/tiny/own/seed-0")]
    assert torch.equal(*features)
