"""`flip.load`: what a program computes with it is what flip.evaluate computes for the same weights; the notebook of the
documentation runs."""

import io
import re
import shutil
import tarfile
import tomllib

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import flip
from flip.evaluate.__main__ import evaluate_weights
from flip.evaluate.inputs import read_model
from flip.files import read_json, write_json
from flip.formats.images import decode
from flip.testsets.reader import prompts, to_square
from tests.looked_at import small, write_folder
from tests.miniature import ROOT
from tests.test_curve import Training

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
VARIANTS = ("flip-50", "siglip", "mae", "flava-text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, change, small_data):
    """A project in which variants have been trained for three steps."""
    folder = write_folder(tmp_path_factory.mktemp("pretrained"), small_data)
    for variant in VARIANTS:
        training = Training(folder, small(change, variant))
        training.advance(3)
        training.end()
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def files(split):
    """(image, class) of a split, as they are in its tar."""
    with tarfile.open(split / "0.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    return [(found[name], int(found[name.replace("jpg", "cls")])) for name in found if name.endswith("jpg")]


@torch.no_grad()
def accuracies(model, place):
    """Whether each image's best class is its own, as a user of open_clip would compute it."""
    classes, templates = prompts(place)
    texts = [[template.format(c=name) for template in templates] for name in classes]
    heads = [F.normalize(model.encode_text(model.tokenizer(some), normalize=True).mean(0), dim=-1) for some in texts]
    images, targets = zip(*files(place / "test"), strict=True)
    batch = torch.stack([model.preprocess(Image.open(io.BytesIO(image))) for image in images])
    found = (model.encode_image(batch, normalize=True) @ torch.stack(heads).T).argmax(1)
    return (found == torch.tensor(targets)).numpy()


@pytest.mark.parametrize("variant", ["flip-50", "siglip"])
def test_outcomes_are_those_of_the_evaluation(folder, variant):
    model, data = flip.load(variant, device="cpu"), folder / "data" / "tiny"
    run = folder / "results" / "tiny" / variant / "seed-0"
    expected = evaluate_weights(model.params, data, run / "weights.safetensors", 0)["fine"]
    assert np.array_equal(accuracies(model, data / "tests" / "fine"), expected.astype(bool))


def test_features_are_the_towers_to_the_bit(folder):
    model, run = flip.load("flip-50", device="cpu"), folder / "results/tiny/flip-50/seed-0"
    towers, tokenize = read_model(model.params, folder / "data/tiny", run / "weights.safetensors", "cpu")
    encoded = [image for image, _ in files(folder / "data/tiny/tests/fine/test")[:5]]
    side = model.params.model.image
    squares = torch.stack([to_square(decode(image, "image"), side) for image in encoded])
    batch = torch.stack([model.preprocess(Image.open(io.BytesIO(image))) for image in encoded])
    assert batch.shape == (5, 3, side, side)
    assert torch.equal(model.encode_image(batch), towers.encode_image(squares))
    ids = model.tokenizer(["a red image", "two"])
    assert torch.equal(ids, tokenize(["a red image", "two"]))
    assert torch.equal(model.encode_text(ids), towers.encode_text(ids))
    torch.testing.assert_close(model.encode_text(ids, normalize=True).norm(dim=-1), torch.ones(2))
    assert model.tokenizer("two").shape == (1, model.params.model.tokens)
    assert model.logit_scale.exp() == towers.scale
    assert model.logit_bias is None
    model.encode_image(batch).sum().backward()
    assert model.towers.image_projection.weight.grad.abs().sum() > 0


def test_a_file_is_decoded_as_in_evaluation(tmp_path):
    model = flip.load("flip-50", device="cpu")
    turned, clear = Image.new("RGB", (30, 20), (200, 0, 0)), Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    turned.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    clear.save(tmp_path / "clear.png")
    assert torch.equal(model.preprocess(tmp_path / "turned.png"), model.preprocess(Image.open(tmp_path / "turned.png")))
    assert (model.preprocess(str(tmp_path / "clear.png")) == 255).all(), "white behind what is transparent"


def test_a_model_is_found_by_name_folder_and_file(folder, tmp_path, monkeypatch):
    """From anywhere by a path; with the tokenizer that lies beside the weights, if one does."""
    expected, run = flip.load("flip-50").state_dict(), folder / "results/tiny/flip-50/seed-0"
    imported = shutil.copytree(run, tmp_path / "imported")
    shutil.copy(folder / "data/tiny/tokenizer.json", imported)
    monkeypatch.chdir(tmp_path)
    for place in (run, str(run), run / "weights.safetensors", imported, imported / "weights.safetensors"):
        found = flip.load(place).state_dict()
        assert all(torch.equal(found[name], one) for name, one in expected.items())
    monkeypatch.chdir(run.parent)
    assert flip.load("./seed-0").params.variant == "flip-50"


def test_what_cannot_be_loaded_or_encoded_is_said(folder, tmp_path):
    for name, message in (
        ("flop-50", "unknown variant 'flop-50'; did you mean 'flip-50'?"),
        ("clip", "weights.safetensors: not found; `snakemake variant --config scale=tiny variant=clip` trains it"),
        ("./nowhere", "nowhere/params.yaml, nowhere/weights.safetensors: not found; name a variant"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            flip.load(name)
    with pytest.raises(ValueError, match="--seed 3: 'flip-50' is trained with"):
        flip.load("flip-50", seed=3)
    alone = shutil.copytree(folder / "results/tiny/flip-50/seed-0", tmp_path / "a/b/c/d/e")
    with pytest.raises(ValueError, match=r"tokenizer.json: not found; .*name another one by tokenizer="):
        flip.load(alone)
    assert flip.load(alone, tokenizer=folder / "data/tiny/tokenizer.json")
    write_json(tmp_path / "other.json", read_json(folder / "data/tiny/tokenizer.json") | {"vocabulary": 7})
    with pytest.raises(ValueError, match="has shape"):
        flip.load(alone, tokenizer=tmp_path / "other.json")
    model = flip.load("flip-50")
    for wrong in (torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, 16, 3, dtype=torch.uint8), torch.zeros(3, 16, 16)):
        with pytest.raises(ValueError, match=r"allowed: torch.uint8 \[batch, 3, 16, 16\]"):
            model.encode_image(wrong)
    with pytest.raises(ValueError, match="'mae' has no text tower: it encodes images alone"):
        flip.load("mae").encode_text(torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="'flava-text' has no image tower"):
        flip.load("flava-text").encode_image(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_and_end_with_a_plot(path, monkeypatch):
    """Their cells in one process, without Jupyter."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept in Git without what it printed"
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    names = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{path.name}, {cell.id}", "exec"), names)
    (figure,) = shown
    assert cell.source.endswith("plt.show()")
    assert len(figure.axes) == 3
    plt.close(figure)


def test_an_installed_package_has_all_files_of_the_folder():
    """Templates, tables of facts and py.typed among them."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    files = [path for path in (ROOT / "flip").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert len(files) > 10
    assert [path for path in files if not any(path.match(pattern) for pattern in stated["*"])] == []
