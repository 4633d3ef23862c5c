"""Sheets of images: cells lie where they should; visible patches are the image's bytes, and an oracle's drawing is
the image; predictions are those of training; the maps that are shown hit where the score says so; all of it for fixed
images and masks."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from flip.data.contact_sheet import GAP, SHOWN, SIDE, cell, label, sheet, spread, webp
from flip.evaluate import gallery, retrieval
from flip.evaluate.kinds import pointing
from flip.evaluate.reconstruction import GREY, Error, Prediction, beside_words, by_decoder, drawn, reconstructions
from flip.evaluate.sheets import sheets, write_sheets
from flip.losses import Setting, build_towers
from flip.losses.generative import GenerativeObjective
from flip.losses.reconstruction import Pixels, ReconstructionObjective
from flip.model.vision import patchify, unpatchify
from flip.synthetic import testsets
from flip.testsets.reader import examples, prompts, read_set, to_square
from tests.colour_sets import IMAGES, write_set
from tests.conftest import COLOURS, SMALL
from tests.variants import DRAW_BESIDE_WORDS, DRAW_PATCHES

# webdataset leaves its files open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
POINTED = 40


def random_images(count=6, side=16):
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(1)).byte()


# The layout.


@pytest.mark.parametrize(("total", "count"), [(1500, 512), (512, 12), (13, 12), (12, 12), (5, 12), (0, 12)])
def test_places_are_spread_evenly(total, count):
    places = spread(total, count)
    assert len(places) == min(total, count)
    assert all(low < high for low, high in pairwise(places))
    assert all(place * total // len(places) <= found < total for place, found in enumerate(places))


def test_images_in_step_with_their_classes_are_not_all_of_one():
    """128 classes in turns, and a stretch of 125: evenly spaced ones would be neighbours."""
    assert len({place % 128 // 16 for place in spread(1500, 12)}) >= 5


def test_stacks_stand_side_by_side_six_in_a_row():
    cells = [cell(np.full((8, 8, 3), value, np.uint8)) for value in range(14)]
    found = sheet([cells[2 * number : 2 * number + 2] for number in range(7)])
    step, below = SIDE + GAP, 2 * SIDE + 5 * GAP
    assert found.shape == (2 * (2 * SIDE + GAP) + 4 * GAP, 6 * step - GAP, 3)
    for number in range(7):
        left, top = number % 6 * step, number // 6 * below
        for row in range(2):
            place = found[top + row * step : top + row * step + SIDE, left : left + SIDE]
            assert (place == 2 * number + row).all()
    assert (found[:, SIDE : SIDE + GAP] == 255).all()


def test_small_images_keep_their_pixels_and_large_ones_fit():
    image = random_images(1, 48)[0].numpy()
    assert np.array_equal(cell(image)[::2, ::2], image)
    assert cell(random_images(1, 224)[0].numpy()).shape == (SIDE, SIDE, 3)


def test_words_fit_below_an_image():
    found = label("a very long caption that goes on and on, and then some more", "hit", (0, 102, 75))
    assert found.shape[1:] == (SIDE, 3)
    assert (found[-13:].astype(int)[:, :, 1] - found[-13:, :, 0] > 60).any(), "the mark has its colour"
    with Image.open(io.BytesIO(webp(sheet([[found]])))) as image:
        assert (image.format, image.size) == ("WEBP", (SIDE, found.shape[0]))


# Reconstructions.


def test_unpatchify_undoes_patchify():
    images = random_images()
    assert torch.equal(unpatchify(patchify(images, 4), 4), images)


@pytest.mark.parametrize("normalize", [True, False])
def test_visible_patches_are_the_images_bytes_and_an_oracle_draws_the_image(change, normalize):
    images, targets = random_images(), Pixels(change("mae", SMALL), normalize)
    images[0] = 200  # a plain image has no variance to be normalised by
    removed = torch.rand(6, 16, generator=torch.Generator().manual_seed(2)) < 0.75
    seen, made = drawn(Prediction(targets(images), removed, targets), images)
    assert torch.equal(made, images)
    patches = patchify(seen, 4)
    assert torch.equal(patches[~removed], patchify(images, 4)[~removed])
    assert (patches[removed] == GREY).all()
    wrong = torch.randn(6, 16, 48, generator=torch.Generator().manual_seed(3))
    _, made = drawn(Prediction(wrong, removed, targets), images)
    same = patchify(made, 4) == patchify(images, 4)
    assert same[~removed].all()
    assert not same[removed].all()


def test_a_prediction_of_nothing_is_each_patchs_mean_where_pixels_are_normalised(change):
    images, targets = random_images(), Pixels(change("mae", SMALL), True)
    means = patchify(images, 4).double().unflatten(2, (-1, 3))
    scaled = (means.flatten(2) - targets.mean) / targets.std
    expected = scaled.mean(-1, keepdim=True) * targets.std + targets.mean
    torch.testing.assert_close(targets.undo(torch.zeros(6, 16, 48).double(), images), expected)


def test_error_is_0_for_an_oracle_and_1_for_the_mean(change):
    images, targets = random_images(), Pixels(change("mae-raw", SMALL), False)
    removed = torch.ones(6, 16, dtype=torch.bool)
    removed[:, ::3] = False
    values = targets(images)
    mean = values[removed].mean().expand_as(values).clone()
    mean[~removed] = 1e6  # what is visible does not count
    for prediction, expected in ((values, 0.0), (mean, 1.0)):
        error = Error()
        for rows in torch.arange(6).split(4):
            error.add(Prediction(prediction[rows], removed[rows], targets), images[rows])
        assert error.value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("variant", "way", "names"),
    [
        *((name, by_decoder, ("prediction", "removed")) for name in DRAW_PATCHES),
        *((name, beside_words, ("pixels", "removed_patches")) for name in DRAW_BESIDE_WORDS),
    ],
)
@torch.no_grad()
def test_predictions_are_those_of_training(change, variant, way, names):
    torch.manual_seed(0)
    model = build_towers(change(variant, SMALL), 20).eval()
    ids = torch.randint(1, 20, (6, 8), generator=torch.Generator().manual_seed(4))
    batch = {"images": random_images(), "ids": ids, "positions": torch.arange(6)}
    found, trained = way(model, batch, 3), model(batch, 3)
    assert torch.equal(found.values, trained[names[0]])
    assert torch.equal(found.removed, trained[names[1]])
    assert found.targets.normalize == (way is by_decoder and variant != "mae-raw")


# What an evaluation leaves.


@pytest.fixture(scope="module")
def data(change, tmp_path_factory):
    """A set with classes, one with captions, and one with boxes."""
    folder = tmp_path_factory.mktemp("shown")
    write_set(folder / "tests" / "fine")
    write_set(folder / "tests" / "retrieval", retrieval=True)
    few = change("clip", {"world": {"tests": {"pointing": POINTED}}})
    testsets.make(few, "pointing", folder / "tests" / "pointing")
    return folder


@pytest.fixture
def build(change):
    """build(variant): a model of random weights that is shown those sets."""

    def built(variant):
        params = change(variant, SMALL)
        sets = params.evaluate.model_copy(update={"sets": dict.fromkeys(("fine", "retrieval", "pointing"), "world")})
        torch.manual_seed(0)
        return build_towers(params.model_copy(update={"evaluate": sets}), 20).eval()

    return built


def tokenize(texts):
    return torch.tensor([[1 + sum(map(ord, text)) % 19] * 8 for text in texts])


def test_examples_are_the_images_at_their_places(data):
    images, classes = examples(data / "tests" / "fine", 16, 12)
    places = spread(IMAGES, 12)
    assert classes == [place % 4 for place in places]
    colours = torch.tensor(list(COLOURS.values()))[classes].float()
    assert (images.float().mean(dim=(1, 2)) - colours).abs().max() < 3


def test_each_variant_has_the_sheets_that_its_losses_can_fill(build, data):
    aligned = {"relevance-pointing", "matches-retrieval"}
    wanted = {
        "clip": aligned,
        "mae": {"reconstruction"},
        "mae-raw": {"reconstruction"},
        "flip-75-mae": {"reconstruction", *aligned},
        "m3ae": {"generative"},
        "mae-clip": {"generative", *aligned},
        "flava": aligned,
        "flava-text": set(),
    }
    for variant, names in wanted.items():
        found = sheets(build(variant), tokenize, data, 0, "cpu")
        assert found.keys() == names
        assert all(len(image) < 60_000 for image, _ in found.values())
        assert all(len(facts["subjects"]) == SHOWN for _, facts in found.values())


def test_facts_say_how_pixels_are_predicted(build, data):
    folder = data / "tests" / "fine"
    for variant, expected in {"mae": (0.75, True, False), "mae-raw": (0.75, False, False)}.items():
        _, facts = reconstructions(build(variant), tokenize, folder, 0, "cpu")["reconstruction"]
        assert (facts["removed"], facts["normalized"], facts["words"]) == expected
        assert facts["measured"] == IMAGES
        assert 0.5 < facts["error"] < 3
        assert set(facts["subjects"]) <= set(COLOURS)
    _, facts = reconstructions(build("m3ae"), tokenize, folder, 0, "cpu")["generative"]
    assert facts["words"]
    assert facts["removed"] == pytest.approx(0.75)


@pytest.mark.parametrize("variant", [*DRAW_PATCHES, *DRAW_BESIDE_WORDS])
@torch.no_grad()
def test_the_error_is_the_loss_of_training(build, data, variant):
    """On the same images, captions and masks: the loss without its weight, in units of the targets' variance."""
    model, folder = build(variant), data / "tests" / "fine"
    ((section, (_, facts)),) = reconstructions(model, tokenize, folder, 3, "cpu").items()
    images, labels = examples(folder, 16, facts["measured"])
    names, templates = prompts(folder)
    ids = tokenize([templates[0].format(c=names[label]) for label in labels])
    batch = {"images": images, "ids": ids, "positions": torch.arange(len(images))}
    objective = (
        ReconstructionObjective(Setting(model.params))
        if section == "reconstruction"
        else GenerativeObjective(Setting(model.params))
    )
    outputs = model(batch, 3)
    loss = next(iter(objective(batch, outputs).values()))
    weight = model.params.reconstruction.weight if section == "reconstruction" else model.params.generative.pixels
    removed = outputs["removed" if section == "reconstruction" else "removed_patches"]
    variance = objective.targets(images)[removed].double().var(correction=0)
    assert facts["error"] == pytest.approx((loss / weight / variance).item(), rel=1e-5)


def test_the_same_weights_give_the_same_bytes_and_another_seed_other_masks(build, data):
    first, second, other = (sheets(build("flip-75-mae"), tokenize, data, seed, "cpu") for seed in (0, 0, 1))
    assert first == second
    assert first["reconstruction"] != other["reconstruction"]
    assert first["relevance-pointing"] == other["relevance-pointing"]


def test_hits_on_the_sheet_are_those_of_the_score(build, data):
    model, folder = build("clip"), data / "tests" / "pointing"
    _, facts = pointing.maps_of(model, tokenize, folder, "cpu")
    score = pointing.outcomes(model, tokenize, folder, "cpu", 16)
    assert facts["hits"] == [bool(score[place]) for place in spread(POINTED, SHOWN)]
    assert 0 < sum(facts["hits"]) < SHOWN or set(facts["hits"]) == set(score.astype(bool))


def test_ranks_are_those_of_a_hand_made_matrix_and_right_answers_have_a_tick(build, data, monkeypatch):
    """Each caption fits its own image, but for those of the first twenty, whose image comes fourth."""
    images, owners = torch.eye(IMAGES), torch.arange(IMAGES).repeat_interleave(2)
    texts = torch.eye(IMAGES)[owners]
    for step, score in ((1, 4), (2, 3), (3, 2)):
        texts += score * torch.eye(IMAGES)[(owners + step) % IMAGES] * (owners < 20)[:, None]
    monkeypatch.setattr(retrieval, "embed", lambda *_: (images, texts, owners))
    model = build("clip")
    loader = read_set(data / "tests" / "retrieval", model.params.model.image, model.params.evaluate.batch)
    image, facts = gallery.best_matches(model, tokenize, loader, "cpu")
    places = spread(2 * IMAGES, SHOWN)
    assert facts["ranks"] == [4 if place < 40 else 1 for place in places]
    assert facts["subjects"] == [f"{list(COLOURS)[p // 2 % 4]} {('one', 'two')[p % 2]} {p // 2}" for p in places]
    assert (facts["images"], facts["top"]) == (IMAGES, 4)
    with Image.open(io.BytesIO(image)) as sheet_:
        last = np.array(sheet_)[-2 * SIDE :, -SIDE:]
    assert np.abs(last[SIDE + 2, 40].astype(int) - pointing.MISS[1]).max() < 40, "the fourth is wrong"


def test_right_and_wrong_answers_differ_without_colours():
    plain = np.full((SIDE, SIDE, 3), 90, np.uint8)
    right, wrong = (gallery.edged(plain, one) for one in (True, False))
    assert right.shape == wrong.shape == plain.shape
    assert ((right == 255).all(axis=2)).sum() > 20, "a tick"
    assert not (wrong == 255).all(axis=2).any()
    assert (plain == 90).all()


def test_boxes_and_best_patches_are_drawn_where_they_are():
    image, map_ = np.full((SIDE, SIDE, 3), 90, np.uint8), np.zeros((6, 6), np.float32)
    map_[4, 1] = 1
    found = pointing.heated(image, map_)
    rows, columns = np.nonzero((found == 255).all(axis=2))
    assert (rows.mean().round(), columns.mean().round()) == (4.5 * SIDE / 6, 1.5 * SIDE / 6)
    inside = found[4 * 16 + 1, 17].astype(int)
    assert inside.sum() > found[0, 0].astype(int).sum(), "the best patch is brighter"
    box = (pointing.framed(image, (0.25, 0.5, 0.75, 1.0)) == 255).all(axis=2)
    rows, columns = np.nonzero(box)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (24, 48, 71, 95)
    assert (image == 90).all(), "the image itself stays"


def test_a_map_without_differences_is_no_error():
    assert pointing.heated(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((4, 4), np.float32)).shape == (SIDE, SIDE, 3)


def test_earlier_sheets_are_gone(tmp_path):
    facts = {"kind": "relevance"}
    assert write_sheets(tmp_path, {"a": (b"1", facts), "b": (b"2", facts)}) == {"a": facts, "b": facts}
    write_sheets(tmp_path, {"b": (b"3", facts)})
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["b.webp"]
    assert write_sheets(tmp_path, {}) == {}
    assert not (tmp_path / "sheets").exists()


def test_the_first_image_is_shown_as_models_see_it(build, data):
    """Before it is packed: the cell is the image's central square."""
    sample = pointing.chosen(data / "tests" / "pointing")[0]
    square = to_square(sample.image, 16).numpy()
    assert np.array_equal(cell(square)[::6, ::6], square)
