"""Exports are loaded by their own libraries alone and give the features that they were made of, and come back as they
were; what cannot be expressed is refused; the card says where a model comes from, and its code runs."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from flip.config.frozen import dump, load, merge
from flip.config.schema import Captions
from flip.config.tree import read_tree
from flip.data.tokenizer import CaptionTokenizer, build
from flip.export import exports, open_clip_models, target
from flip.export.check import example_image
from flip.export.formats import choose, quiet, targets
from flip.export.imports import Checkpoint, convert_checkpoint
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.losses import build_towers
from flip.model.weights import save_weights
from flip.provenance.receipt import save
from flip.testsets.reader import to_square
from tests.commands import flip
from tests.conftest import TOWERS
from tests.hub import UploadHandler, serving
from tests.miniature import ROOT

pytestmark = pytest.mark.long(3)

quiet("transformers")
VARIANTS = read_tree("params.yaml")["variants"]
BIASED = {"form": {"vision": {"pre_norm": False, "patch_bias": True, "projection": "affine"}}}
AFFINE = {"form": {"vision": {"projection": "affine"}}}
MAE = {"form": {"vision": {"pooling": "class", "norm_epsilon": 1e-6}}}
TOWER = {"layers": 1, "width": 32, "heads": 2}
ONE_WIDTH = {"model": {"text": TOWER}, "flava": {"multimodal": TOWER}}
# Form: variant and what is different from it, the format, and the class that takes it.
CASES = {
    "clip-form in open_clip": ("clip-form", {}, "open_clip", "OpenClip"),
    "quick_gelu": (
        "clip-form",
        {"form": {side: {"activation": "quick_gelu"} for side in ("vision", "text")}},
        "open_clip",
        "OpenClip",
    ),
    "clip-form in transformers": ("clip-form", {}, "transformers", "Clip"),
    "clip-form in timm": ("clip-form", {}, "timm", "Timm"),
    "other towers in open_clip": ("clip-form", BIASED, "open_clip", "OpenClipWithTimm"),
    "siglip in open_clip": ("siglip", {}, "open_clip", "OpenClipWithTimm"),
    "siglip in transformers": ("siglip", {}, "transformers", "Siglip"),
    "siglip in timm": ("siglip", {}, "timm", "Timm"),
    "flip in timm": ("flip-50", {}, "timm", "Timm"),
    "a decoder is left behind": ("flip-50-mae", {}, "timm", "Timm"),
    "without a text tower": ("mae", {}, "timm", "Timm"),
    "further losses": ("slip", {}, "timm", "Timm"),
    "mae": ("clip", MAE, "transformers", "VitMae"),
    "mae and its decoder": ("mae-class", {}, "transformers", "VitMaeDecoder"),
    "flava": ("flava", {}, "transformers", "FlavaTowers"),
    "flava and its heads": ("flava-init", ONE_WIDTH, "transformers", "FlavaPretraining"),
    "one side of flava": ("flava-image", {}, "transformers", "VitMae"),
}


@pytest.fixture
def data(tmp_path, small_data):
    """Manifest, tokenizer and ledger."""
    folder = tmp_path / "data"
    shutil.copytree(small_data, folder)
    total = {
        "rows": 200,
        "wanted": 150,
        "arrived": 130,
        "decoded": 130,
        "used": 120,
        "lost": {"filter: size": 50, "not found": 20, "truncated": 10},
    }
    write_json(folder / "ledger.json", {"total": total, "parts": {}})
    return folder


def features(model, images, ids, image_only):
    if image_only:
        return [model.vision.pool(model.vision(images))]
    return [model.encode_image(images), model.encode_text(ids)]


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case, trained, tmp_path, project):
    """The comparison of each direction passes, and what comes back has the form, the weights and the features."""
    variant, delta, name, kind = CASES[case]
    model, tokenizer = trained(variant, delta)
    one = choose(name, model.params)
    assert type(one).__name__ == kind
    found = exports.export(model, tokenizer, one, tmp_path / "there")
    assert found.image < 1e-5
    assert (found.text is None) == one.image_only
    assert (found.further is not None) == bool(one.keeps)
    convert_checkpoint(Checkpoint(name, tmp_path / "there"), "there", tmp_path / "back", project.baseline)
    params = load(tmp_path / "back" / "params.yaml")
    form, own = params.form.vision, model.params.form.vision
    changed = {"positions": "learned", "patch_bias": form.patch_bias} | (
        {"projection": "none"} if one.image_only else {}
    )
    assert form == own.model_copy(update=changed)
    assert one.image_only or params.form.text == model.params.form.text
    assert one.image_only or params.captions == model.params.captions
    stored = load_file(tmp_path / "back" / "weights.safetensors")
    again = build_towers(
        params, len(stored.get("text.embed.weight", "0"))
    ).eval()  # a token more where words were hidden
    again.load_state_dict(stored, strict=not one.image_only)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    ids = torch.from_numpy(tokenizer(["red image 1", "blue"]))
    pairs = [features(each, images, ids, one.image_only) for each in (model, again)]
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    if not one.image_only:
        torch.testing.assert_close(again.scale, model.scale)
        assert (again.logit_bias is None) == (model.logit_bias is None)


@pytest.mark.parametrize("variant", ["flip-50", "clip-form", "siglip", "flava", "flip-50-mae"])
def test_every_form_becomes_programs_of_torch_alone(variant, trained, tmp_path):
    """Any number of images and captions at a time, an empty caption among them, without a line of this project."""
    model, tokenizer = trained(variant)
    found = exports.export(model, tokenizer, choose("torch", model.params), tmp_path / "there")
    assert max(found.image, found.text) < 1e-5
    texts = ["", "red", "a blue image of " * 9]
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    expected = [model.encode_image(images.permute(0, 2, 3, 1)), model.encode_text(torch.from_numpy(tokenizer(texts)))]
    code = """if True:
        import sys, torch
        from tokenizers import Tokenizer
        image, text = (torch.export.load(f"{sys.argv[1]}/{side}.pt2").module() for side in ("image", "text"))
        images, texts = torch.load(sys.argv[2])
        tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")
        ids = torch.tensor([one.ids for one in tokenizer.encode_batch(texts)])
        one_by_one = torch.cat([image(one[None]) for one in images])
        assert not [name for name in sys.modules if name.startswith("flip")]
        torch.save([image(images), text(ids), one_by_one], sys.argv[2])
    """
    torch.save([images, texts], tmp_path / "data.pt")
    subprocess.run([sys.executable, "-c", code, tmp_path / "there", tmp_path / "data.pt"], cwd=tmp_path, check=True)
    image, text, one_by_one = torch.load(tmp_path / "data.pt")
    for ours, theirs in zip([*expected, expected[0]], [image, text, one_by_one], strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["open_clip", "transformers"])
def test_clips_tokenizer_goes_along(name, change, tmp_path, project):
    """To open_clip as its own, to transformers as files; back as CLIP's or as that file."""
    delta = merge(VARIANTS["clip-form"], {"model": TOWERS | {"tokens": 20}, "tokenizer": {"kind": "clip"}})
    params = change("clip-form", delta)
    write_json(tmp_path / "tokenizer.json", build(params, iter(())))
    tokenizer = CaptionTokenizer(tmp_path / "tokenizer.json", 20, params.captions)
    model = build_towers(params, tokenizer.vocabulary).eval()
    exports.export(model, tokenizer, choose(name, params), tmp_path / "there")
    assert (tmp_path / "there" / "tokenizer.json").exists() == (name == "transformers")
    convert_checkpoint(Checkpoint(name, tmp_path / "there"), "there", tmp_path / "back", project.baseline)
    again = CaptionTokenizer(tmp_path / "back" / "tokenizer.json", 20, params.captions)
    texts = ["A photo of two dogs, isn't it?", "", "x " * 30]
    assert np.array_equal(again(texts), tokenizer(texts))


@pytest.mark.parametrize(
    ("variant", "delta", "name", "message"),
    [
        ("flip-50", {}, "open_clip", r"form\.text\.pooling = 'mean'; allowed: 'last'.*take it: --format timm"),
        ("flip-50", {}, "transformers", r"SiglipModel: form\.vision\.pooling = 'mean'; allowed: 'map'"),
        ("clip-form", AFFINE, "transformers", r"projection = 'affine'; allowed: 'linear'.*take it: --format open_clip"),
        ("clip-form", {"sigmoid": {"weight": 1.0}}, "transformers", r"sigmoid\.weight = 1\.0; allowed: 0\.0"),
        ("flava-text", {}, "timm", r"has_image_tower = False; allowed: True: .*nothing else can"),
        ("mae", {}, "open_clip", r"aligned = False; allowed: True: it has a text tower"),
        ("siglip", {"captions": {"fill": False}}, "open_clip", r"captions\.fill = False; allowed: True: .* padding"),
        ("siglip", {"form": {"vision": {"norm_epsilon": 1e-3}}}, "timm", r"0\.001; allowed: 1e-06, 1e-05"),
        ("clip-form", {"form": {"vision": {"patch_bias": True}}}, "timm", r"patch_bias = True; allowed: False"),
        ("clip-form", {"form": {"text": {"activation": "quick_gelu"}}}, "open_clip", r"quick_gelu in both towers"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused(variant, delta, name, message, trained):
    params = trained(variant, delta)[0].params
    if name == "open_clip" and "both" in message:
        assert type(choose(name, params)).__name__ == "OpenClipWithTimm"  # whose towers do not have to agree
        assert re.search(message, "\n".join(target.faults(targets(name)[0], params)))
        return
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        choose(name, params)


def test_images_are_prepared_alike(trained, tmp_path):
    """A square image that has to shrink gives the pixels of flip.testsets.reader: PIL's exactly, torch's but for one
    level."""
    model, tokenizer = trained()
    mean, std = (torch.tensor(x)[:, None, None] for x in (model.params.form.vision.mean, model.params.form.vision.std))
    one = example_image(75, 75, seed=1)
    for name, levels in (("open_clip", 0.001), ("timm", 0.001), ("transformers", 1.001)):
        chosen = choose(name, model.params)
        exports.export(model, tokenizer, chosen, tmp_path / name)
        theirs = 255 * (chosen.load(tmp_path / name).pixels(one) * std + mean)
        assert (theirs - to_square(one, 32).permute(2, 0, 1)).abs().max() < levels, name


@pytest.mark.parametrize(
    ("broken", "message"), [("weights", "image: .* apart; allowed: 1e-05"), ("tokens", "has the tokens")]
)
def test_a_mismatch_is_an_error_and_leaves_nothing(broken, message, trained, small_data, tmp_path, monkeypatch):
    model, tokenizer = trained()
    one = choose("open_clip", model.params)
    if broken == "weights":
        weights = open_clip_models.their_weights
        off = lambda *words: {name: tensor * (1 + 1e-4) for name, tensor in weights(*words).items()}  # noqa: E731
        monkeypatch.setattr(open_clip_models, "their_weights", off)
    else:
        other = CaptionTokenizer(
            small_data / "tokenizer.json",
            12,
            Captions(tokenizer="scale", languages=["en"], start=False, end=True, fill=False),
        )
        write = open_clip_models.write_tokenizer
        monkeypatch.setattr(open_clip_models, "write_tokenizer", lambda _, folder: write(other, folder))
    with pytest.raises(ValueError, match=message):
        exports.export(model, tokenizer, one, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.fixture
def result(trained, data, tmp_path):
    """Folder of a finished run: weights, parameters, training.json, metrics.json."""

    def made(variant, delta=None):
        model, _ = trained(variant, delta)
        folder = tmp_path / "results" / variant
        save_weights(folder / "weights.safetensors", model.state_dict())
        write_atomic(folder / "params.yaml", dump(model.params))
        manifest = read_json(data / "manifest.json")
        training = {"samples": 360, "seconds": 12.5, "seed": 0, "device": "a processor", "manifest": manifest["id"]}
        write_json(folder / "training.json", training | {"pairs": manifest["pairs"], "images": 120})
        sets = {"fine": {"samples": 40, "sha256": "ab" * 32}}
        write_json(folder / "metrics.json", {"metrics": {"fine": 12.345}, "sets": sets, "manifest": manifest["id"]})
        return folder

    return made


def receipts(folder, result, data):
    """The chain manifest <- pretrain <- evaluate of a run."""

    def write(stage, after, made, facts):
        git = {"commit": "c" * 40, "changed": stage == "evaluate"}
        content = {"made_from": {"after": dict.fromkeys(after)}, "made": made, "spec": {"stage": stage}, "facts": facts}
        content |= {"git": git, "versions": {"torch": "2.13.0"}, "machine": {"processor": "a processor"}}
        save(folder / f"{stage}.json", content)
        return str(folder / f"{stage}.json")

    weights = result / "weights.safetensors"
    manifest = write("manifest", [], {}, {"ledger": read_json(data / "ledger.json")})
    made = {str(weights): {"sha256": file_hash(weights), "bytes": weights.stat().st_size}}
    pretrain = write("pretrain", [manifest], made, {"training": read_json(result / "training.json")})
    return write("evaluate", [pretrain], {}, {"metrics": read_json(result / "metrics.json")})


def words(result, data, *more):
    found = ["--params", result / "params.yaml", "--weights", result / "weights.safetensors", "--data", data, *more]
    return [str(word) for word in found]


def test_the_card_says_where_the_model_comes_from(result, data, tmp_path, capsys):
    folder = result("flip-50")
    receipt = receipts(tmp_path / "receipts", folder, data)
    out = tmp_path / "exported"
    flip("export", *words(folder, data, "--format", "timm", "--out", out, "--receipt", receipt, "--licence", "MIT"))
    assert "timm's VisionTransformer; features of images differ by" in capsys.readouterr().out
    text = (out / "README.md").read_text()
    manifest = read_json(data / "manifest.json")
    for fact in (
        manifest["id"], manifest["pairs"], "| training pairs | 120 |", "| samples seen | 360 |", "| rows | 200 |",
        "| wanted | 150 |", "| lost: filter: size | 50 |",
        "| arrived | 130 |", "| used | 120 |", "| lost: not found | 20 |", "| fine | 12.35 |",
        "40 images, revision `abab", "c" * 40, "| torch | 2.13.0 |", "license_name: MIT", f'"local-dir:{out}"',
        "The text tower and the projections",
        "image: 0.5", "for research, not for decisions about people",
    ):  # fmt: skip
        assert fact in text, fact
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "other"
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    names = {"image": example_image(40, 40, 0)}
    exec(code, names)
    assert names["image_features"].shape == (1, 32)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("clip-form", "open_clip"), ("siglip", "transformers"), ("flava", "transformers"),
        ("mae-class", "transformers"), ("flip-50", "torch"), ("mae", "torch"),
    ],
)  # fmt: skip
def test_the_cards_commands_run(variant, name, result, data, tmp_path):
    """Without a receipt, what lies beside the weights is told; the code under "How to load it" gives features."""
    out = tmp_path / "exported"
    flip("export", *words(result(variant), data, "--format", name, "--out", out))
    text = (out / "README.md").read_text()
    assert "Commit and versions are not recorded" in text
    assert "| lost: truncated | 10 |" in text
    assert "None is stated; ask the authors" in text
    names = {"image": example_image(40, 50, 0)}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    if variant == "mae":
        assert names["image_features"].shape == (1, 32)
    elif name in ("open_clip", "torch"):
        assert names["image_features"].shape == names["text_features"].shape == (1, 24)
    elif variant == "siglip":
        assert names["found"].logits_per_image.shape == (1, 1)
    elif variant == "flava":
        assert names["image_features"].shape == names["text_features"].shape == (1, 24)
    else:
        assert names["found"].logits.shape == (1, 16, 192)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--format", "open_clip"], "has no form that --format open_clip can express"),
        (["--format", "timm", "--receipt", "RECEIPT"], "the receipt of other weights"),
        (["--format", "timm", "--weights", "CUT"], "not a whole safetensors file"),
        (["--format", "timm", "--out", "."], "already exists"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(more, message, result, data, tmp_path, capsys):
    folder = result("flip-50")
    named = {"RECEIPT": receipts(tmp_path / "receipts", folder, data), "CUT": tmp_path / "cut.safetensors"}
    named["CUT"].write_bytes((folder / "weights.safetensors").read_bytes()[:-100])
    if "--receipt" in more:
        facts = read_json(tmp_path / "receipts" / "pretrain.json")
        save(tmp_path / "receipts" / "pretrain.json", facts | {"made": {"w": {"sha256": "0"}}})
    more = (named.get(word, word) for word in more)
    flip("export", *words(folder, data, "--out", tmp_path / "out"), *more, code=1)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def upload(tmp_path):
    """upload(hub, *words): `flip push` in a process of its own, which the hub's address and a token are given to."""

    def called(hub, *words, token="hf_test"):
        told = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        told |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", "flip", "push", *map(str, words)]
        return subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)

    return called


@pytest.mark.parametrize(("variant", "name"), [("flip-50", "torch"), ("siglip", "open_clip"), ("mae", "timm")])
def test_an_export_is_pushed_whole_and_its_card_loads_it_from_there(variant, name, result, data, tmp_path, upload):
    """Against a stand-in for the hub: the real one cannot be reached here."""
    out = tmp_path / "exported"
    flip("export", *words(result(variant), data, "--format", name, "--out", out))
    with serving("you/model", {}, UploadHandler) as hub:
        hub.token = "hf_test"
        done = upload(hub, out, "--repo", "you/model", "--private")
        assert (done.returncode, done.stdout) == (0, f"{hub.url}/you/model\n"), done.stderr
    made = next(sent for kind, path, sent in hub.asked if path == "/api/repos/create")
    assert json.loads(made).get("visibility", json.loads(made).get("private")) in ("private", True)
    here = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert hub.files.keys() == here.keys()
    assert {path for path in here if hub.files[path] != here[path]} == {"README.md"}
    card = hub.files["README.md"].decode()
    assert str(out) not in card
    assert {"torch": 'snapshot_download("you/model")'}.get(name, '"hf-hub:you/model"') in card
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == {"torch": "pytorch"}.get(name, name)
    task = "image-feature-extraction" if variant == "mae" else "zero-shot-image-classification"
    assert front["pipeline_tag"] == task


def test_what_cannot_be_pushed_is_one_line(tmp_path, upload):
    (tmp_path / "README.md").write_text("a card")
    with serving("you/model", {}, UploadHandler) as hub:
        hub.token = "another"
        cases = [(tmp_path, "you/model", "Invalid username or password"), (tmp_path, "model", "USER/NAME")]
        cases += [(tmp_path / "none", "you/model", "no README.md here, so it is not an export")]
        for folder, repo, message in cases:
            done = upload(hub, folder, "--repo", repo)
            assert done.returncode == 1
            assert message in done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not hub.files


def test_the_docs_say_which_library_takes_which_variant(trained):
    """Each cell of the table in docs/export.md is what the code finds for the variant."""
    rows = re.findall(r"^\| (?!Variant|--)(.+) \|$", (ROOT / "docs/export.md").read_text(), re.MULTILINE)
    for name, *said in (row.split(" | ") for row in rows):
        params = trained(re.search("`([a-z0-9-]+)`", name)[1])[0].params
        for library, cell in zip(("open_clip", "transformers", "timm", "torch"), said, strict=True):
            fits = [one for one in targets(library) if not target.faults(one, params)]
            whole = library == "timm" or not (fits and fits[0].image_only and params.has_text_tower)
            assert cell == ("no" if not fits else "yes" if whole else "image tower"), (name, library)
