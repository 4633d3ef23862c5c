"""Where models look: boxes hold what the caption names and nothing else; hits are what one can count by hand; an oracle
scores 100 and a random map chance; a patch's relevance is what it adds to the image's feature."""

import json
import tarfile
from hashlib import sha256
from io import BytesIO
from random import Random

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import global_pool_nlc

from flip.config.kinds import pointing as boxes
from flip.config.kinds.pointing import Sample, samples
from flip.evaluate.kinds.pointing import hits, outcomes, relevance
from flip.files import read_json
from flip.formats.contents import add
from flip.losses import build_towers
from flip.synthetic import render, testsets, world
from flip.synthetic.pointing import QUARTERS, box
from flip.synthetic.scenes import COLOURS, SHAPES
from flip.synthetic.shapes import placed
from flip.synthetic.shifts import annotations, jpeg_of, scene_of
from flip.testsets.fingerprints import of_tests
from flip.testsets.reader import to_square
from tests.conftest import SMALL

IMAGES = 120


@pytest.fixture(scope="module")
def tiny(project):
    return project.resolve("clip").world


@pytest.fixture(scope="module")
def scenes(tiny):
    return [scene_of(tiny, "pointing", index) for index in range(300)]


@pytest.fixture(scope="module")
def folder(change, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "pointing"
    testsets.make(change("clip", {"world": {"tests": {"pointing": IMAGES}}}), "pointing", out)
    return out


def build(change, pooling, delta=None):
    torch.manual_seed(0)
    model = build_towers(
        change("clip", SMALL | {"form": {"vision": {"pooling": pooling}}} | (delta or {})), 50
    ).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def random_images(count=6):
    return torch.randint(0, 256, (count, 16, 16, 3), generator=torch.Generator().manual_seed(1)).byte()


def random_text(count=6):
    return torch.randn(count, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


# The images.


def painted(scene, thing):
    """bool [height, width]: pixels of a thing that is drawn alone onto black, where a shadow leaves no trace."""
    image = np.zeros((scene.height, scene.width, 3), np.float32)
    render.draw_thing(image, thing, scene, Random(0), np.full(3, 255, np.float32))
    return image.max(axis=2) > 128


def test_boxes_hold_their_things_and_are_tight(scenes):
    for scene in scenes[:100]:
        for thing in scene.things:
            left, top, right, bottom = box(thing, scene)
            mask = render.silhouette(placed(thing, scene.width, scene.height), scene) >= 128
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            assert all(side.any() for side in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]))
            around = painted(scene, thing)
            around[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = False
            assert not around.any(), "an edge is at most two pixels wide"


def test_things_differ_do_not_overlap_and_lie_in_the_central_square(scenes):
    for scene in scenes:
        assert len(scene.things) in (2, 3)
        for what in ("shape", "colour"):
            assert len({getattr(thing, what) for thing in scene.things}) == len(scene.things)
        short = min(scene.width, scene.height)
        middle = np.array([scene.width, scene.height, scene.width, scene.height]) / 2
        found = [(np.array(box(thing, scene)) - middle) / short for thing in scene.things]
        assert all(np.abs(edges).max() <= 0.5 + 1 / short for edges in found)
        for first, edges in enumerate(found):
            for other in found[:first]:
                assert (edges[:2] >= other[2:] - 2 / short).any() or (other[:2] >= edges[2:] - 2 / short).any()


def test_neither_place_nor_size_nor_kind_tells_which_thing_is_named(scenes):
    places = [(np.sign(scene.main.x), np.sign(scene.main.y)) for scene in scenes]
    counts = [places.count(quarter) for quarter in QUARTERS]
    assert sum(counts) == len(scenes)
    assert all(abs(count - 75) < 4.5 * (300 * 0.25 * 0.75) ** 0.5 for count in counts)
    largest = np.mean([scene.main.size == max(thing.size for thing in scene.things) for scene in scenes])
    assert abs(largest - np.mean([1 / len(scene.things) for scene in scenes])) < 4.5 * 0.5 / 300**0.5
    assert {scene.main.shape for scene in scenes} == set(SHAPES)
    assert {scene.main.colour for scene in scenes} == set(COLOURS)


def test_the_set_says_what_is_named_and_where(folder, tiny):
    found = list(samples(folder / "test" / "0.tar"))
    assert len(found) == IMAGES
    for index, sample in enumerate(found):
        scene = scene_of(tiny, "pointing", index)
        article = "an" if scene.main.colour == "orange" else "a"
        assert sample.caption == f"{article} {scene.main.colour} {scene.main.shape}"
        assert sample.box == tuple(box(scene.main, scene))
        assert sample.image.size == (scene.width, scene.height)
    revision = read_json(folder / "revision.json")
    assert (revision["samples"], revision["classes"]) == (IMAGES, 0)
    assert revision["chance"] == pytest.approx(100 * np.mean([sample.share for sample in found]), abs=1e-3)
    assert 5 < revision["chance"] < 15


def test_its_images_take_part_in_the_search_for_contamination(folder, tiny):
    (table,) = of_tests([folder / "revision.json"])
    assert table["set"].to_pylist() == ["pointing"] * IMAGES
    assert table["sha256"][7].as_py() == sha256(jpeg_of(tiny, "pointing", 7)).digest()
    assert table["looks"].null_count == 0


def test_other_sets_and_the_url_table_are_what_they_were(tiny):
    """Whatever is added beside them: the hash is that of the data set since a part of a thing says what it is."""
    names = ("fine", "coarse", "retrieval", "sketch", "rendition", "corruption", "viewpoint")
    found = [
        (scene_of(tiny, name, index), [*annotations(tiny, name, index).values()])
        for name in names
        for index in range(50)
    ]
    found += [(world.origin(tiny, row), world.scene(tiny, row), world.caption(tiny, row)) for row in range(2000)]
    digest = sha256(repr(found).encode()).hexdigest()
    assert digest == "d2c7d831c77414e4e07d3262be804616b994cc4594bc34030d6ad1a18e720230"


# The reader.


def tar_of(path, **files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            add(tar, f"000000.{name}", content)
    return path


def jpeg_bytes(width=40, height=20):
    file = BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


def test_boxes_are_seen_in_the_square_that_models_see(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "nshards.txt").write_text("1\n")
    tar = tar_of(tmp_path / "test" / "0.tar", jpg=jpeg_bytes(), txt=b"a thing\n", json=b'{"box": [5, 5, 20, 20]}')
    (sample,) = samples(tar)
    assert (sample.caption, sample.box) == ("a thing", (5, 5, 20, 20))
    assert sample.square == (0.0, 0.25, 0.5, 1.0)
    assert sample.share == 0.375
    assert boxes.KIND.facts(tmp_path, "mine", "accuracy") == {"chance": 37.5}
    image = np.zeros((20, 40, 3), np.uint8)
    image[5:20, 5:20] = 255
    seen = to_square(Image.fromarray(image), 20)[:, :, 0] > 128
    expected = torch.zeros(20, 20, dtype=bool)
    expected[5:20, 0:10] = True
    assert torch.equal(seen, expected)
    outside = Sample(b"", (40, 20), "", (0, 0, 8, 20))
    assert outside.share == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"json": b'{"box": [5, 5, 20, 20]}'}, r"000000 needs an image and a \.txt with its caption"),
        ({"txt": b"a thing"}, r"000000\.json is ''; it needs {'box': \[left, top, right, bottom\]}"),
        ({"txt": b"a thing", "json": b'{"boxes": []}'}, '000000.json is \'{"boxes": '),
        ({"txt": b"a thing", "json": b'{"box": [5, 5, 50, 20]}'}, "000000.json is .* in an image of 40 x 20 pixels"),
        ({"txt": b"a thing", "json": b'{"box": [5, 5, 5, 20]}'}, "the first two smaller"),
    ],
)
def test_samples_without_caption_or_box_are_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        list(samples(tar_of(tmp_path / "0.tar", jpg=jpeg_bytes(), **files)))


# Pointing.


def test_hits_by_hand():
    """Four patches, their centres at 1/4 and 3/4."""
    maps = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]] * 3 + [[[0.0, 0.0], [1.0, 0.0]]])
    square = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.76, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.2, 0.7, 0.3, 0.8]])
    assert hits(maps, square).tolist() == [True, False, False, True]


def test_an_oracle_hits_and_a_random_map_scores_chance(folder):
    """At `tiny` every box holds the centre of a patch."""
    found = list(samples(folder / "test" / "0.tar"))
    square = torch.tensor([sample.square for sample in found])
    centres = (torch.arange(6) + 0.5) / 6
    left, top, right, bottom = square[:, :, None].unbind(dim=1)
    inside = ((left <= centres) & (centres < right))[:, None] & ((top <= centres) & (centres < bottom))[:, :, None]
    assert hits(inside.float(), square).all()
    assert not hits(1 - inside.float(), square).any()
    generator = torch.Generator().manual_seed(0)
    rounds = [hits(torch.rand(IMAGES, 6, 6, generator=generator), square) for _ in range(50)]
    chance = boxes.KIND.facts(folder, "pointing", "accuracy")["chance"] / 100
    # Centres of patches are a sample of the points of an image, and each round one of a patch per image.
    spread = (chance * (1 - chance)) ** 0.5 * (1 / (36 * IMAGES) + 1 / (50 * IMAGES)) ** 0.5
    assert abs(torch.stack(rounds).float().mean().item() - chance) < 4 * spread


class Oracle:
    """Patches of the boxes' images fit the caption by how white they are."""

    def __init__(self, params):
        self.params, self.vision = params, self

    def __call__(self, images):
        grid, patch = self.params.model.grid, self.params.model.patch
        white = images.double().mean(dim=3).unflatten(2, (grid, patch)).unflatten(1, (grid, patch)).mean(dim=(2, 4))
        return torch.stack([white, 255 - white], dim=-1).flatten(1, 2)

    def patches(self, encoded):
        return encoded

    def project_image(self, encoded):
        return encoded[:, 0]

    def encode_text(self, ids):
        return torch.tensor([[1.0, 0.0]]).double().expand(len(ids), 2)


def test_outcomes_of_an_oracle(change, tmp_path):
    """White squares on black, over two tars and several batches; the last image's box is elsewhere."""
    rng = np.random.default_rng(0)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "nshards.txt").write_text("2\n")
    for number in range(2):
        with tarfile.open(tmp_path / "test" / f"{number}.tar", "w") as tar:
            for index in range(5):
                image = np.zeros((64, 80, 3), np.uint8)
                left, top = rng.integers(8, 48), rng.integers(0, 40)
                image[top : top + 24, left : left + 24] = 255
                edges = [int(left), int(top), int(left) + 24, int(top) + 24]
                if (number, index) == (1, 4):
                    edges = [0, 0, 8, 8]
                jpeg = cv2.imencode(".png", image)[1].tobytes()
                for kind, content in (("png", jpeg), ("txt", b"white"), ("json", json.dumps({"box": edges}).encode())):
                    add(tar, f"{index:06d}.{kind}", content)
    found = outcomes(Oracle(change("clip", SMALL).model_copy()), lambda t: torch.zeros(len(t), 3), tmp_path, "cpu", 3)
    assert found.dtype == np.float32
    assert found.tolist() == [1.0] * 9 + [0.0]


# Relevance.


def test_relevance_of_mean_pooling_averages_to_the_features_product(change):
    """The projection is linear: patches' products with a text have the image feature's as their mean."""
    model, images, text = build(change, "mean"), random_images(), random_text()
    maps = relevance(model, images, text)
    assert maps.shape == (6, 4, 4)
    alone = model.image_projection(model.vision(images))
    products = maps.flatten(1) * alone.norm(dim=-1) * text.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(products.mean(1), (model.encode_image(images) * text).sum(-1), rtol=1e-12, atol=1e-12)


def test_relevance_of_max_pooling_is_of_the_tokens_that_channels_come_from(change):
    model, images = build(change, "max"), random_images()
    tokens = model.vision(images)
    assert torch.equal(model.vision.pool(tokens), global_pool_nlc(tokens, "max", num_prefix_tokens=0))
    expected = F.cosine_similarity(model.image_projection(tokens), random_text()[:, None], dim=-1)
    torch.testing.assert_close(relevance(model, images, random_text()).flatten(1), expected)


def test_relevance_beside_a_class_token_leaves_it_out(change):
    model, images, text = build(change, "class"), random_images(), random_text()
    tokens = model.vision(images)
    assert tokens.shape[1] == 17
    expected = F.cosine_similarity(model.image_projection(tokens[:, 1:]), text[:, None], dim=-1)
    torch.testing.assert_close(relevance(model, images, text).flatten(1), expected)


def test_relevance_of_attention_pooling_is_of_each_token_alone(change):
    """Softmax over one key is 1, whatever the probe: the token's values, through the output layer and the MLP."""
    model, images, text = build(change, "map"), random_images(), random_text()
    tokens, head = model.vision(images), model.vision.attention_pooling
    values = head.out(head.keys_values(tokens).chunk(2, dim=-1)[1])
    expected = F.cosine_similarity(model.image_projection(values + head.mlp(head.norm(values))), text[:, None], dim=-1)
    maps = relevance(model, images, text)
    torch.testing.assert_close(maps.flatten(1), expected)
    head.probe.data.normal_()
    assert torch.equal(relevance(model, images, text), maps)


@pytest.mark.parametrize("pooling", ["mean", "class", "map", "max"])
def test_maps_are_cosines_that_lengths_do_not_change(change, pooling):
    model, images, text = build(change, pooling), random_images(), random_text()
    maps = relevance(model, images, text)
    assert maps.abs().max() <= 1
    assert torch.equal(maps, relevance(model, images, text))
    torch.testing.assert_close(relevance(model, images, 7 * text), maps)
    torch.testing.assert_close(relevance(model, images[:2], text[:2]), maps[:2])


def test_max_pooling_has_no_weights_and_takes_kept_patches_only(change):
    mean, largest = build(change, "mean"), build(change, "max")
    assert mean.state_dict().keys() == largest.state_dict().keys()
    keep = torch.tensor([[0, 3, 9]]).expand(6, -1)
    tokens = largest.vision(random_images(), keep)
    assert torch.equal(largest.vision.pool(tokens), tokens.amax(dim=1))
    tokens = tokens.detach().requires_grad_()
    largest.vision.pool(tokens).sum().backward()
    assert torch.equal(tokens.grad.sum(dim=1), torch.ones(6, 16).double())


def test_a_map_of_no_numbers_hits_nothing():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)
    maps = torch.stack([torch.zeros(3, 3), torch.full((3, 3), float("nan"))])
    assert hits(maps, boxes).tolist() == [True, False]
