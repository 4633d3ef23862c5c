"""Public checkpoints become weights of ours with the same features, which are evaluated and trained by the commands;
what is damaged, of another kind or more than tensors is refused, and nothing is left."""

import pickle
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from flip.config.frozen import load, merge
from flip.config.tree import read_tree
from flip.data.tokenizer import CaptionTokenizer
from flip.export import exports, open_clip_models
from flip.export.formats import choose, quiet, targets
from flip.export.imports import Checkpoint, adopt, convert, convert_checkpoint
from flip.export.libraries import Library
from flip.export.target import Loaded
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.losses import build_towers
from flip.model.weights import load_weights
from tests.commands import flip
from tests.conftest import SMALL
from tests.test_evaluate import write_set

quiet("transformers")


def test_a_second_export_has_the_same_bytes(trained, tmp_path, project):
    """Public checkpoints that are imported and not trained come out as they went in."""
    model, tokenizer = trained(
        "clip-form", {"form": {"vision": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}}}
    )
    one = targets("open_clip")[0]
    exports.export(model, tokenizer, one, tmp_path / "first")
    convert_checkpoint(Checkpoint("open_clip", tmp_path / "first"), "there", tmp_path / "back", project.baseline)
    params = load(tmp_path / "back" / "params.yaml")
    assert params.form.vision.mean == (0.48, 0.46, 0.41)
    tokenizer = CaptionTokenizer(tmp_path / "back" / "tokenizer.json", params.model.tokens, params.captions)
    again = build_towers(params, tokenizer.vocabulary)
    load_weights(tmp_path / "back" / "weights.safetensors", again)
    exports.export(again, tokenizer, one, tmp_path / "second")
    name = "open_clip_model.safetensors"
    assert file_hash(tmp_path / "first" / name) == file_hash(tmp_path / "second" / name)


class Payload:
    """Unpickled by a careless program, leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("open_clip", "open_clip_pytorch_model.bin"),
        ("timm", "pytorch_model.bin"),
        ("transformers", "pytorch_model.bin"),
    ],
)
def test_nothing_in_a_checkpoint_is_run(name, file, trained, tmp_path, project):
    model, tokenizer = trained()
    exports.export(model, tokenizer, choose(name, model.params), tmp_path / "there")
    for path in (tmp_path / "there").glob("*.safetensors"):
        path.unlink()
    canary = tmp_path / "canary"
    torch.save({"state_dict": Payload(canary)}, tmp_path / "there" / file)
    with pytest.raises(ValueError, match=f"{name} cannot load it"):
        convert_checkpoint(Checkpoint(name, tmp_path / "there"), "there", tmp_path / "back", project.baseline)
    (tmp_path / "there" / file).write_bytes(pickle.dumps(Payload(canary), protocol=2))
    with pytest.raises(ValueError, match=f"{name} cannot load it"):
        convert_checkpoint(Checkpoint(name, tmp_path / "there"), "there", tmp_path / "back", project.baseline)
    assert not canary.exists()
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", list(Library))
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_checkpoint_is_named(name, damage, trained, tmp_path, project):
    model, tokenizer = trained()
    exports.export(model, tokenizer, choose(name, model.params), tmp_path / "there")
    (path,) = (tmp_path / "there").glob("*.safetensors")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        stored = load_file(path)
        stored.pop(next(name for name in stored if "blocks.1" in name or "layers.1" in name))
        save_file(stored, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"there: {name} cannot load it|apart"):
        convert_checkpoint(Checkpoint(name, tmp_path / "there"), "there", tmp_path / "back", project.baseline)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"init_values": 1e-5}, "has no place here for 4 weights: blocks.0.ls1.gamma"),
        ({"mlp_ratio": 3.0}, r"mlp\.0\.weight' would be \[96, 32\]; allowed: \[128, 32\]"),
        ({"qk_norm": True}, "has no place here for 8 weights"),
        ({"fc_norm": True}, "has no place here for 2 weights: fc_norm"),
        ({"reg_tokens": 2}, "has no place here for 1 weights: reg_token"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(extra, message, trained, tmp_path, project):
    import timm

    model, tokenizer = trained("flip-50")
    exports.export(model, tokenizer, choose("timm", model.params), tmp_path / "there")
    config = read_json(tmp_path / "there" / "config.json")
    config["model_args"] |= extra
    write_json(tmp_path / "there" / "config.json", config)
    theirs = timm.create_model(config["architecture"], **config["model_args"])
    save_file(theirs.state_dict(), tmp_path / "there" / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(Checkpoint("timm", tmp_path / "there"), "there", tmp_path / "back", project.baseline)


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-L-14-336", "ViT-H-14", "ViT-B-16-SigLIP"])
def test_public_architectures_are_expressed(name, project):
    """Every weight of theirs, without allocating any, has its place in a model of ours."""
    import open_clip
    from open_clip.factory import get_model_config
    from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg

    class EndOnly:
        pad_token_id = 1

        def __call__(self, text):
            return {"input_ids": [1]}

    config = get_model_config(name)
    with torch.device("meta"):
        theirs = (CustomTextCLIP if config.pop("custom_text", False) else CLIP)(**config)
    set_model_preprocess_cfg(theirs, asdict(PreprocessCfg()))
    tokenizer = EndOnly() if "hf_tokenizer_name" in config["text_cfg"] else open_clip.SimpleTokenizer()
    loaded = Loaded(theirs, None, None, tokenizer=tokenizer)
    kind = open_clip_models.kind_of(loaded)
    delta = merge(open_clip_models.described(loaded, config), kind.described_vision(theirs.visual))
    params = adopt(
        project.baseline, merge(delta, {"captions": {"end": True}, "bias": theirs.logit_bias is not None}), name.lower()
    )
    weights = convert(kind, loaded, params, theirs.vocab_size, Path(name))
    assert sum(tensor.numel() for tensor in weights.values()) == pytest.approx(
        sum(parameter.numel() for parameter in theirs.parameters()), abs=2 * params.model.vision.width
    )


def test_a_bare_file_needs_the_name_of_its_architecture(tmp_path, project):
    import timm

    theirs = timm.create_model("test_vit", num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="a file of weights needs --architecture"):
        convert_checkpoint(Checkpoint("timm", tmp_path / "vit.pth"), "there", tmp_path / "back", project.baseline)
    with pytest.raises(ValueError, match="not there; --source wants"):
        convert_checkpoint(Checkpoint("timm", tmp_path / "vit.bin"), "there", tmp_path / "back", project.baseline)


def write_small_parameters(path):
    """params.yaml with a training of seconds and one test set."""
    tree = read_tree("params.yaml")
    tree["base"] = merge(tree["base"], {"evaluate": {"batch": 16}})
    tree["scales"]["tiny"]["evaluate"] |= {"sets": {"fine": "world"}, "probe": []}
    tree["scales"]["tiny"] = merge(
        tree["scales"]["tiny"], {"train": SMALL["train"] | {"epochs": 0.4, "warmup_samples": 8}}
    )
    write_atomic(path, yaml.safe_dump(tree))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_imported_model_is_evaluated_and_trained(trained, small_data, tmp_path):
    """By the commands, with its own tokenizer, whatever the data's is."""
    from flip.evaluate.__main__ import main as evaluate
    from flip.train.__main__ import main as pretrain

    data = shutil.copytree(small_data, tmp_path / "data")
    model, tokenizer = trained()
    exports.export(model, tokenizer, choose("transformers", model.params), tmp_path / "there")
    write_set(data / "tests" / "fine")
    write_small_parameters(tmp_path / "params.yaml")
    out = tmp_path / "back"
    source = ("--format", "transformers", "--source", tmp_path / "there")
    flip("import", "--params", tmp_path / "params.yaml", *source, "--variant", "from-there", "--out", out)
    assert load(out / "params.yaml").variant == "from-there"
    other = read_json(data / "tokenizer.json") | {"vocabulary": 3}
    write_json(data / "tokenizer.json", other)
    given = ["--params", out / "params.yaml", "--data", data, "--tokenizer", out / "tokenizer.json", "--seed", 0]
    evaluate([str(word) for word in [*given, "--weights", out / "weights.safetensors", "--out", tmp_path / "e"]])
    assert read_json(tmp_path / "e" / "metrics.json")["weights"] == file_hash(out / "weights.safetensors")
    tuned = [
        *given,
        "--start",
        out / "weights.safetensors",
        "--checkpoints",
        tmp_path / "c",
        "--out",
        tmp_path / "tuned",
    ]
    pretrain([str(word) for word in tuned])
    before, after = (load_file(folder / "weights.safetensors") for folder in (out, tmp_path / "tuned"))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(moved) > len(before) / 2


CODE = "open({canary!r}, 'w')\n\n\nclass Theirs:\n    pass\n"
AUTO_MAP = {"AutoConfig": "theirs.Theirs", "AutoModel": "theirs.Theirs", "AutoTokenizer": ["theirs.Theirs", None]}


@pytest.mark.parametrize(
    ("name", "file", "asked"),
    [
        ("transformers", "config.json", {"model_type": "theirs", "auto_map": AUTO_MAP}),
        (
            "transformers",
            "tokenizer_config.json",
            {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}},
        ),
        ("open_clip", "open_clip_config.json", {"text_cfg": {"hf_model_name": "../there"}}),
        ("open_clip", "open_clip_config.json", {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}),
    ],
)
def test_no_code_beside_a_checkpoint_is_run(name, file, asked, trained, tmp_path, project, monkeypatch):
    """Neither by itself, nor after a question that a program answers with yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, tokenizer = trained(*(["siglip"] if name == "open_clip" else []))
    there, canary = tmp_path / "there", tmp_path / "canary"
    exports.export(model, tokenizer, choose(name, model.params), there)
    (there / "theirs.py").write_text(CODE.format(canary=str(canary)))
    config = read_json(there / file)
    if name == "open_clip":
        config["model_cfg"] = merge(config["model_cfg"], asked)
        words = read_json(there / "tokenizer_config.json")
        words |= {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}}
        write_json(there / "tokenizer_config.json", words)
    write_json(there / file, config if name == "open_clip" else config | asked)
    with suppress(ValueError):  # some are not needed to read the weights
        convert_checkpoint(Checkpoint(name, there), "there", tmp_path / "back", project.baseline)
    assert not canary.exists()
