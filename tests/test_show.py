"""The page of one variant: scores are clip-benchmark's, best matches those of a search by hand, masks the training's;
it loads nothing from elsewhere, and what cannot be shown is said."""

import io
import re
from base64 import b64decode

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clip_benchmark.metrics import zeroshot_classification as benchmark
from PIL import Image

from flip.data.tokenizer import CaptionTokenizer
from flip.evaluate.encoders import Full
from flip.evaluate.reconstruction import GREY
from flip.losses import build_towers
from flip.model.masking import mask_patches
from flip.model.weights import save_weights
from flip.provenance.trained import find
from flip.show.page import patches_of
from flip.show.viewer import Viewer
from flip.testsets.reader import prompts
from tests.colour_sets import IMAGES
from tests.commands import flip
from tests.conftest import COLOURS
from tests.looked_at import small, write_folder, write_params
from tests.test_page import Reader

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
VARIANTS = ("clip", "flip-50", "sigmoid", "flip-75-mae", "mae", "m3ae", "flava-text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, change, small_data):
    """Weights of several variants, as random as they begin."""
    folder = write_folder(tmp_path_factory.mktemp("show"), small_data)
    for number, variant in enumerate(VARIANTS):
        params = small(change, variant)
        tokenizer = CaptionTokenizer(small_data / "tokenizer.json", params.model.tokens, params.captions)
        torch.manual_seed(number)
        model = build_towers(params, tokenizer.vocabulary)
        save_weights(write_params(folder, params) / "weights.safetensors", model.state_dict())
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def show(tmp_path, capsys):
    """show(words...): the page."""

    def run(*words):
        out = tmp_path / "page.html"
        flip("show", *words, "--out", out)
        assert str(out) in capsys.readouterr().out
        return out.read_text()

    return run


@pytest.fixture
def refused(capsys):
    """refused(words...): what is said."""

    def run(*words):
        flip("show", *words, code=1)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return run


def viewer(variant):
    return Viewer(find(variant, "tiny", 0))


# What is shown.


@pytest.mark.parametrize("variant", ["clip", "sigmoid"])
def test_class_features_and_scores_are_those_of_clip_benchmark(variant):
    one = viewer(variant)
    classes, templates = prompts("data/tiny/tests/fine")
    weights = benchmark.zero_shot_classifier(Full(one.model), one.tokenize, classes, templates, "cpu", amp=False)
    torch.testing.assert_close(one.class_features("fine"), weights.T, rtol=1e-6, atol=1e-6)
    features = one.image(one.load_set("fine").images)
    cosines = features @ weights
    scores = one.scores("fine", features)
    assert torch.equal(scores.argmax(1), cosines.argmax(1))
    if variant == "clip":
        torch.testing.assert_close(scores, (one.model.scale * cosines).softmax(1).detach())
    else:
        torch.testing.assert_close(scores, (one.model.scale * cosines + one.model.logit_bias).sigmoid().detach())


def test_best_matches_are_those_of_all_images_of_all_sets():
    one = viewer("clip")
    test_sets = [one.load_set(name) for name in ("fine", "retrieval")]
    text = F.normalize(one.model.encode_text(one.tokenize(["red image"])), dim=-1).detach()
    pixels = torch.from_numpy(np.concatenate([np.array(test_set.images) for test_set in test_sets]))
    cosines = (F.normalize(one.model.encode_image(pixels), dim=-1) @ text.T)[:, 0].detach()
    found = one.matches("red image", test_sets, 7)
    torch.testing.assert_close(
        torch.tensor([match.cosine for match in found]), cosines.sort(descending=True).values[:7]
    )
    for match in found:
        name, number = re.fullmatch(r"(\w+), image (\d+)", match.shown.source).groups()
        place = int(number) + IMAGES * (name == "retrieval")
        assert cosines[place].item() == pytest.approx(match.cosine, abs=1e-6)
        assert np.array_equal(match.shown.pixels, pixels[place].numpy())
        assert match.shown.words.split()[0] == list(COLOURS)[int(number) % 4]


def test_test_sets_are_looked_at_once_per_weights(monkeypatch):
    one = viewer("clip")
    test_sets = [one.load_set("fine")]
    first = one.matches("red", test_sets, 3)
    again = viewer("clip")
    monkeypatch.setattr(again, "image", lambda *_: pytest.fail("computed again"))
    assert [match.cosine for match in again.matches("red", test_sets, 3)] == [match.cosine for match in first]
    assert viewer("flip-50").matches("red", test_sets, 3)[0].cosine != first[0].cosine


def test_patches_that_a_mask_removes_are_grey_and_all_others_the_images():
    pixels = np.random.default_rng(0).integers(0, 100, (16, 16, 3)).astype(np.uint8)
    found, zoom = patches_of(pixels, 4, kept=np.array([0, 6, 15])), 288 // 16
    step = 4 * zoom + 2
    assert found.shape == (4 * step - 2, 4 * step - 2, 3)
    for number in range(16):
        row, column = divmod(number, 4)
        cell = found[row * step : row * step + 4 * zoom : zoom, column * step : column * step + 4 * zoom : zoom]
        own = pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert np.array_equal(cell, own) if number in (0, 6, 15) else (cell == GREY).all()
    assert (found[4 * zoom : step] == 255).all(), "white between them"


def test_masks_are_those_of_training():
    one = viewer("flip-50")
    image = one.test_image(one.load_set("fine"), 17)
    order = mask_patches(0, torch.tensor([17]), 16, 8)
    assert torch.equal(one.kept(image), order.ids_keep)
    assert viewer("clip").kept(image) is None


def images(html):
    """Sizes of the page's images by alternative text."""
    return {
        one["alt"]: Image.open(io.BytesIO(b64decode(one["src"].partition(",")[2]))).size
        for one in Reader(html).of("img")
    }


def test_a_page_has_all_parts_and_loads_nothing(show):
    html = show("flip-50", 'a "red" <image> on grass', "--count", 5)
    reader = Reader(html)
    assert "<script" not in html
    assert all(value.startswith(("data:image/png;base64,", "#")) for _, value in reader.references)
    words = "".join(reader.words)
    assert "a “red”" not in words
    assert 'a "red" <image> on grass' in words
    for part in ("Test images that fit it best", "fine: the best of 4 classes", "a mask of 50%", "Where it looks"):
        assert part in words
    assert "retrieval: the best" not in words
    assert html.count("<li><figure>") == 5
    assert images(html).keys() >= {"All patches of the image", "The patches that are kept"}


def test_an_image_of_ones_own_is_cut_to_its_square(show, tmp_path):
    Image.new("RGBA", (300, 200), (220, 30, 30, 255)).save(tmp_path / "mine.png")
    html = show("clip", "red", "--image", tmp_path / "mine.png")
    assert "mine.png" in html
    assert images(html)["mine.png"] == (16, 16)
    assert "is trained on whole images" in html


def test_without_a_sentence_the_best_class_is_looked_for(show):
    html = show("clip", "--number", 5)
    one = viewer("clip")
    best = one.best_class(one.test_image(one.load_set("fine"), 5))
    assert f"<h1>“{best}”</h1>" in html
    assert "fine, image 5" in html


def test_the_same_question_gives_the_same_page(show):
    assert show("flip-75-mae", "red") == show("flip-75-mae", "red")


@pytest.mark.parametrize("variant", ["mae", "m3ae"])
def test_what_a_variant_without_a_common_space_cannot_do_is_said_and_the_rest_is_shown(show, variant):
    html = show(variant, "a red image")
    assert "no text tower</b>, so it cannot compare images with sentences" in html
    assert "Which class it is" not in html
    assert "What it draws" in images(html)


def test_sentences_are_shown_as_the_model_reads_them(show):
    assert viewer("clip").spelled("Red image") == "red image"
    assert "[UNK]" in viewer("clip").spelled("红")
    assert "red image" in show("clip", "Red image")


# What is refused.


def test_what_is_not_there_is_said_with_the_command_that_makes_it(refused, folder, tmp_path, change, monkeypatch):
    assert "unknown variant 'flop-50'; did you mean 'flip-50'?" in refused("flop-50", "red")
    said = refused("flip-75", "red")
    assert "results/tiny/flip-75/seed-0/params.yaml: not found" in said
    assert "`snakemake variant --config scale=tiny variant=flip-75` trains it" in said
    assert "--seed 3: 'clip' is trained with 0" in refused("clip", "red", "--seed", 3)
    assert "unknown scale 'tinny'" in refused("clip", "red", "--scale", "tinny")
    write_params(folder, small(change, "flip-50-small-batch"))
    assert "weights.safetensors: not found" in refused("flip-50-small-batch", "red")
    assert "'flava-text' has no image tower" in refused("flava-text", "red")


def test_bad_images_and_sets_are_named(refused, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    assert "text.jpg: cannot be read as an image" in refused("clip", "red", "--image", tmp_path / "text.jpg")
    assert "cannot be read as an image" in refused("clip", "red", "--image", tmp_path / "missing.jpg")
    assert "--number 40: fine has images 0 to 39" in refused("clip", "red", "--number", 40)
    assert "--number -1" in refused("clip", "red", "--number", -1)
    assert "--set fien: no such test set; did you mean 'fine'?" in refused("clip", "red", "--set", "fien")


def test_an_empty_sentence_is_refused(refused):
    assert "the sentence has no word" in refused("clip", " ")
