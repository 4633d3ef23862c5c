"""The embedded world: a row's image, caption and fault depend on the parameters and its number alone, attributes are
independent of each other but for where things are at home, a few patches say most of what all do, and every share is
what params.yaml says."""

import json
import re
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from itertools import combinations

import cv2
import numpy as np
import pytest

from flip.config.faults import check
from flip.config.frozen import dump, merge
from flip.config.schema import World
from flip.synthetic import world
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.render import decode, draw
from flip.synthetic.scenes import (
    AT_HOME,
    BACKGROUNDS,
    COARSE,
    COLOURS,
    FINE,
    HABITATS,
    RELATIONS,
    SHAPES,
    TEXTURES,
    draw_scene,
    stream,
)
from flip.synthetic.shapes import placed
from flip.synthetic.shifts import IMAGES_OF, LEAKING, SETS, jpeg_of, scene_of
from flip.synthetic.surfaces import SURFACES

PAIRS = list(combinations(("shape", "colour", "texture", "background", "count"), 2))
PAIRS.remove(("shape", "background"))  # things are at home somewhere
DIGEST = """
import json, sys
from hashlib import sha256
from flip.synthetic.world import caption, fault, jpeg
from flip.config.schema import World
world = World.model_validate_json(sys.argv[1])
rows = [(sha256(jpeg(world, row)).hexdigest(), caption(world, row), fault(world, row)) for row in range(60)]
print(sha256(json.dumps(rows).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def tiny(project):
    return project.resolve("clip").world


@pytest.fixture(scope="module")
def scenes(tiny):
    return [world.scene(tiny, row) for row in range(4000)]


def changed(tiny, delta):
    return check(World, merge(tiny.model_dump(mode="json"), delta), "test")


def is_share(count, total, share):
    """Whether a count is within 4.5 standard deviations of the binomial's mean."""
    return abs(count - total * share) <= 4.5 * (total * share * (1 - share)) ** 0.5


def test_rows_are_the_same_in_another_process(tiny):
    rows = [(sha256(world.jpeg(tiny, r)).hexdigest(), world.caption(tiny, r), world.fault(tiny, r)) for r in range(60)]
    here = sha256(json.dumps(rows).encode()).hexdigest()
    command = [sys.executable, "-c", DIGEST, tiny.model_dump_json()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == here


def test_order_of_asking_does_not_matter(tiny):
    forwards = [world.jpeg(tiny, row) for row in range(20)]
    assert [world.jpeg(tiny, row) for row in reversed(range(20))] == forwards[::-1]


def test_another_seed_is_another_world(tiny):
    other = changed(tiny, {"seed": tiny.seed + 1})
    assert all(world.jpeg(tiny, row) != world.jpeg(other, row) for row in range(20))


def test_a_share_moves_only_what_it_is_the_share_of(tiny):
    other = changed(tiny, {"wrong_captions": 0.5, "faults": {"not_found": 0.3}})
    rows = range(300)
    assert all(world.scene(tiny, row) == world.scene(other, row) for row in rows)
    right = [row for row in rows if world.described(other, row) == row]
    assert all(world.described(tiny, row) == row for row in right)
    assert [world.caption(tiny, row) for row in right] == [world.caption(other, row) for row in right]
    fewer = changed(tiny, {"duplicates": 0.0})
    own = [row for row in rows if world.origin(tiny, row) == row]
    assert [world.scene(tiny, row) for row in own] == [world.scene(fewer, row) for row in own]


def test_urls_and_rows_belong_together(tiny):
    assert [world.row_of(world.url(row)) for row in (0, 7, 12345678901)] == [0, 7, 12345678901]
    pairs = list(world.urls(changed(tiny, {"images": 5})))
    assert pairs[3] == ("http://world.test/000000003.jpg", world.caption(changed(tiny, {"images": 5}), 3))
    with pytest.raises(ValueError, match=r"is no URL of this world; one is http://world\.test/000000000\.jpg"):
        world.row_of("http://elsewhere.test/000000001.jpg")


def test_class_lists_are_long_enough_and_unique():
    assert len(COARSE) == len(set(COARSE)) == 16
    assert len(FINE) == len(set(FINE)) == 128
    words = [word for words in ENGLISH.shapes.values() for word in words]
    assert len(words) == len(set(words)), "a word names two shapes"
    assert set(ENGLISH.shapes) == set(SHAPES)
    assert set(ENGLISH.colours) == set(COLOURS)
    assert set(ENGLISH.textures) == set(TEXTURES)
    assert set(ENGLISH.backgrounds) == set(BACKGROUNDS)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_attributes_are_independent(scenes, first, second):
    def value(scene, name):
        return {"background": scene.background, "count": len(scene.things)}.get(name) or getattr(scene.main, name)

    pairs = [(value(scene, first), value(scene, second)) for scene in scenes if not scene.look.startswith("0/test")]
    rows, columns = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    table = np.array([[Counter(pairs)[row, column] for column in columns] for row in rows], float)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    freedom = (len(rows) - 1) * (len(columns) - 1)
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5


def linear_accuracy(features, targets, train):
    """Accuracy of a ridge regression onto one-hot classes, on what it was not fitted to."""
    goal = np.eye(targets.max() + 1)[targets]
    x = np.hstack([features, np.ones((len(features), 1))])
    weights = np.linalg.solve(x[:train].T @ x[:train] + 0.01 * np.eye(x.shape[1]), x[:train].T @ goal[:train])
    return ((x[train:] @ weights).argmax(1) == targets[train:]).mean()


def patches(scene, kept, random):
    """Histograms of the hues in patches of a sixth of the side, of which a random few are kept: their mean."""
    image = draw(scene)
    short = min(image.shape[:2])
    top, left = ((side - short) // 2 for side in image.shape[:2])
    hsv = cv2.cvtColor(cv2.resize(image[top : top + short, left : left + short], (96, 96)), cv2.COLOR_RGB2HSV)
    cut = hsv.reshape(6, 16, 6, 16, 3).transpose(0, 2, 1, 3, 4).reshape(36, 16, 16, 3)
    few = cut[random.permutation(36)[:kept]]
    counts = cv2.calcHist(
        [np.ascontiguousarray(few.reshape(-1, 16, 3))], [0, 1, 2], None, [12, 4, 4], [0, 180, 0, 256, 0, 256]
    )
    return np.sqrt(counts.ravel() / counts.sum())


def test_a_few_patches_say_most_of_what_all_do(tiny):
    """By colours alone, of which no outline is left: so masking takes little of what captions say."""
    random = np.random.default_rng(0)
    drawn = [draw_scene(stream(tiny, "patches", n), f"patches {n}", 1) for n in range(2400)]
    facts = {
        "shape": np.array([SHAPES.index(scene.main.shape) for scene in drawn]),
        "colour": np.array([COLOURS.index(scene.main.colour) for scene in drawn]),
    }
    found = {
        (kept, name): linear_accuracy(features, values, 1600)
        for kept in (36, 9)
        for features in [np.stack([patches(scene, kept, random) for scene in drawn])]
        for name, values in facts.items()
    }
    assert found[9, "shape"] > max(0.8 * found[36, "shape"], 4 / len(SHAPES))
    assert found[9, "colour"] > max(0.8 * found[36, "colour"], 4 / len(COLOURS))


def test_shapes_have_surfaces_of_their_own_and_homes():
    assert set(SURFACES) == set(HABITATS) == set(SHAPES)
    assert len({(pattern, ink) for pattern, ink in SURFACES.values()}) == len(SHAPES)
    assert set(HABITATS.values()) == set(BACKGROUNDS)


def test_things_are_mostly_at_home(scenes):
    drawn = [scene for scene in scenes if not scene.look.startswith("0/test")]
    home = sum(scene.background == HABITATS[scene.main.shape] for scene in drawn)
    assert is_share(home, len(drawn), AT_HOME + (1 - AT_HOME) / len(BACKGROUNDS))
    assert is_share(sum(scene.main.texture == "usual" for scene in drawn), len(drawn), 0.91)


def test_the_main_thing_is_large_and_within_the_central_square(tiny):
    for number in range(300):
        scene = draw_scene(stream(tiny, "places", number), "places")
        short = min(scene.width, scene.height)
        main = np.concatenate(placed(scene.main, scene.width, scene.height)) / 16
        assert np.ptp(main, axis=0).max() > 0.28 * short
        away = np.abs(main - (scene.width / 2, scene.height / 2)).max()
        assert away < 0.58 * short
        assert 96 <= short <= 200
        assert 0.69 < scene.width / scene.height < 1.51
        assert decode(world.jpeg(tiny, number)).shape[2] == 3


def test_relations_hold_in_the_image(scenes):
    told = [scene for scene in scenes if scene.relation]
    assert {scene.relation for scene in told} == set(RELATIONS)
    for scene in told:
        first, second = scene.things[:2]
        dx, dy = second.x - first.x, second.y - first.y
        along = dx if scene.relation.endswith("of") else dy
        assert abs(along) > abs(dy if along == dx else dx)
        assert (along > 0) == (scene.relation in ("left of", "above", "on"))


def test_things_without_a_relation_are_alike(scenes):
    groups = [scene.things for scene in scenes if scene.alike]
    assert groups
    assert all(len({(t.shape, t.colour, t.texture) for t in things}) == 1 for things in groups)


def test_wrong_captions_describe_another_row(tiny):
    described = [world.described(tiny, row) for row in range(tiny.images)]
    wrong = [row for row, other in enumerate(described) if row != other]
    assert is_share(len(wrong), tiny.images, tiny.wrong_captions)
    assert all(0 <= other < tiny.images for other in described)


def test_duplicates_and_leaked_rows(tiny):
    origins = [world.origin(tiny, row) for row in range(tiny.images)]
    leaked = [row for row, source in enumerate(origins) if isinstance(source, tuple)]
    twice = [row for row, source in enumerate(origins) if not isinstance(source, tuple) and source != row]
    assert all(origins[row] < row for row in twice)
    # A duplicate of a leaked row is one more row from a test set.
    assert is_share(len(twice) + len(leaked), tiny.images, tiny.duplicates + tiny.leaked)
    same = [world.jpeg(tiny, row) == world.jpeg(tiny, origins[row]) for row in twice]
    assert is_share(sum(same), len(same), 0.5)
    assert world.scene(tiny, twice[0]) == world.scene(tiny, origins[twice[0]])
    copies = [world.jpeg(tiny, row) == jpeg_of(tiny, *origins[row]) for row in leaked]
    assert 0 < sum(copies) < len(copies)
    assert {origins[row][0] for row in leaked} == set(LEAKING)


def test_no_duplicates_no_leaks(tiny):
    clean = changed(tiny, {"duplicates": 0.0, "leaked": 0.0, "wrong_captions": 0.0})
    assert all(world.origin(clean, row) == world.described(clean, row) == row for row in range(3000))


def test_faults_have_their_shares(tiny):
    shares = tiny.faults.model_dump()
    found = Counter(world.fault(tiny, row) for row in range(20000))
    assert all(is_share(found[name], 20000, share) for name, share in shares.items())
    assert is_share(found[None], 20000, 1 - sum(shares.values()))


def mentions(caption, words):
    """Whether one of the words stands in the caption, a plural too, but not within another ("red" in "chequered")."""
    return any(re.search(rf"\b{word}", caption.lower()) for word in words)


def test_captions_are_short_varied_and_mostly_right(tiny, scenes):
    captions = [world.caption(tiny, row) for row in range(len(scenes))]
    lengths = [len(caption.split()) for caption in captions]
    assert min(lengths) == 3
    assert 12 < max(lengths) <= 20
    assert 4 < np.mean(lengths) < 6
    longer = np.mean([length > 8 for length in lengths])
    assert longer > 0.03, "no caption is longer than what prioritized text masking keeps"
    vocabulary = {word.strip(".,:!()#|-").lower() for caption in captions for word in caption.split()}
    assert 150 < len({word for word in vocabulary if not any(letter.isdigit() for letter in word)}) < 300
    right = [row for row in range(len(scenes)) if world.described(tiny, row) == row]
    shapes = [mentions(captions[row], ENGLISH.shapes[scenes[row].main.shape]) for row in right]
    colours = [mentions(captions[row], ENGLISH.colours[scenes[row].main.colour]) for row in right]
    assert np.mean(shapes) > 0.85
    assert 0.45 < np.mean(colours) < 0.75, "a colour is neither left out nor told by all"
    assert len({caption.lower() for caption in captions}) > 0.5 * len(captions)


def test_test_images_are_not_rows(tiny):
    rows = {sha256(world.jpeg(tiny, row)).digest() for row in range(300) if isinstance(world.origin(tiny, row), int)}
    tests = {sha256(jpeg_of(tiny, name, index)).digest() for name in SETS for index in range(20)}
    assert len(tests) == 20 * (len(SETS) - len(IMAGES_OF))
    assert not rows & tests


def test_test_scenes_show_their_class(tiny):
    assert [scene_of(tiny, "coarse", index).main.shape for index in range(16)] == list(COARSE)
    fine = [scene_of(tiny, "fine", index).main for index in range(128)]
    assert [f"{thing.colour} {thing.shape}" for thing in fine] == list(FINE)


def test_the_sheet_shows_rows_and_sets(tmp_path, project):
    (tmp_path / "params.yaml").write_text(dump(project.resolve("clip")))
    for name in (None, "retrieval", "sketch", "pointing"):
        out = tmp_path / f"{name}.png"
        some = ["--set", name] if name else []
        world.main(["sheet", "--params", str(tmp_path / "params.yaml"), "--count", "10", "--out", str(out), *some])
        assert cv2.imread(str(out)).shape == (2 * 215, 8 * 170, 3)
