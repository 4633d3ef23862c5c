"""Sets with measures of their own, from a folder to a table's cell: sets of several labels are read as clip-benchmark
writes and reads them; zero-shot, a probe and a fine-tuned tower give their number, an oracle 100; what a set does not
have, or is too few of, is named and skipped; the outcomes behind a number are what the report resamples."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import flip.data.torchvision_operators  # noqa: F401  (before clip_benchmark imports torchvision)
from flip.config.frozen import merge
from flip.config.kinds.classification import every_class
from flip.config.kinds.multilabel import KIND
from flip.config.resolve import Project, read_project
from flip.evaluate import probe, zeroshot
from flip.evaluate.features import compute
from flip.files import read_json, write_atomic
from flip.formats import layout
from flip.losses import build_towers
from flip.metrics import scoring
from flip.metrics.names import Metric
from flip.metrics.scoring import number
from flip.report import tables
from flip.report.cells import Builder
from flip.report.results import read_results
from flip.report.runs import Run
from flip.testsets.cache import decoded
from flip.testsets.reader import prompts, read_set
from flip.testsets.revision import record, revision, training
from flip.transfer import finetuning
from tests.colour_sets import write_set
from tests.conftest import COLOURS, SMALL
from tests.results_world import write_world

pytestmark = [
    pytest.mark.long(1),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "ignore::ResourceWarning",
        r"ignore:WebDataset\(shardshuffle:UserWarning",
    ),
]
ITEMS, OWN = 64, Metric("own")
NAMES = list(COLOURS)
WHOLE = {"crop_area": [1.0, 1.0], "crop_aspect": [1.0, 1.0], "flip": False}


class Pairs(torch.utils.data.Dataset):
    """Images whose halves have one or two of the colours; their labels."""

    classes, templates = NAMES, ["{c}", "a {c} image"]

    def __len__(self):
        return ITEMS

    def __getitem__(self, index):
        from PIL import Image

        left, right = index % 4, (index // 4) % 4
        image = np.zeros((24, 24, 3), np.uint8)
        image[:, :12], image[:, 12:] = COLOURS[NAMES[left]], COLOURS[NAMES[right]]
        label = torch.zeros(4, dtype=torch.int64)
        label[[left, right]] = 1
        return Image.fromarray(image), label


class Single(Pairs):
    """The class is the left half's colour."""

    def __getitem__(self, index):
        return super().__getitem__(index)[0], index % 4


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """As clip_benchmark_export_wds writes a set of several labels."""
    return export(tmp_path_factory.mktemp("sets") / "voc", Pairs(), True)


def export(folder, dataset, multilabel):
    from clip_benchmark import webdataset_builder

    # Its loader starts eight processes, each of which imports torch.
    loader, torch.utils.data.DataLoader = torch.utils.data.DataLoader, lambda data, **_: [data[i] for i in range(ITEMS)]
    try:
        webdataset_builder.convert_dataset(
            dataset,
            "test",
            str(folder),
            transform=webdataset_builder.PIL_to_bytes("png"),
            image_format="png",
            multilabel=multilabel,
            verbose=False,
        )
    finally:
        torch.utils.data.DataLoader = loader
    return folder


class Eyes:
    """Sees how much of each colour there is; a class is its colour. With noise it is often wrong."""

    def __init__(self, noise=0.0):
        self.noise, self.random = noise, torch.Generator().manual_seed(0)

    def encode_image(self, images):
        pixels = images.double().flatten(1, 2)[:, :, None] - torch.tensor(list(COLOURS.values())).double()
        there = F.one_hot((pixels**2).sum(-1).argmin(-1), 4).double().mean(1)
        there = (there > 0.2).double()
        return there + self.noise * torch.rand(there.shape, generator=self.random).double()

    def encode_text(self, colours):
        return F.one_hot(colours, 4).double()


def first_colour(texts):
    return torch.tensor([next(i for i, c in enumerate(NAMES) if c in text) for text in texts])


def outcomes(folder, measure, noise=0.0, loader=None):
    loader = loader or read_set(folder, 24, 16)
    return zeroshot.outcomes(Eyes(noise), first_colour, loader, *prompts(folder), "cpu", measure)


def clip_benchmarks(folder, noise):
    from clip_benchmark.metrics import zeroshot_classification as benchmark

    class Loader:
        dataset = type("Classes", (), {"classes": NAMES})

        def __iter__(self):
            return iter(read_set(folder, 24, 16))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "accuracy", lambda *_, **__: [0.0])  # needs an older numpy
        return benchmark.evaluate(Eyes(noise), Loader(), first_colour, *prompts(folder), "cpu", amp=False)


def test_several_labels_are_read_and_measured_as_clip_benchmark_does(several):
    assert number("map", outcomes(several, "map")) == number("map-11", outcomes(several, "map-11")) == 100
    found, expected = outcomes(several, "map", 3.0), clip_benchmarks(several, 3.0)["mean_average_precision"]
    assert found.shape == (ITEMS, 2, 4)
    assert 50 < scoring.percent("map", found[None]) < 99
    # clip-benchmark adds up in float32.
    assert scoring.percent("map", found[None]) == pytest.approx(100 * expected, abs=2e-5)


def test_decoded_images_keep_their_labels(several, tmp_path):
    revision = {"samples": ITEMS, "sha256": "1"}
    for _ in range(2):  # written, then read
        loader = decoded(read_set(several, 24, 16), tmp_path / "squares", revision, 24, 16)
        np.testing.assert_array_equal(outcomes(several, "map", 1.0, loader), outcomes(several, "map", 1.0))


def test_mean_per_class_is_clip_benchmarks(tmp_path):
    folder = export(tmp_path / "set", Single(), False)
    found, expected = outcomes(folder, "mean-per-class", 3.0), clip_benchmarks(folder, 3.0)["mean_per_class_recall"]
    assert scoring.percent("mean-per-class", found[None]) == pytest.approx(100 * expected, abs=1e-6)


def test_a_revision_says_how_its_set_is_measured(several):
    found = revision(several, "voc", "x", measure="map-11")
    assert (found["measure"], found["classes"], found["samples"]) == ("map-11", 4, ITEMS)
    assert 43 < found["chance"] < 60  # 7 of 16 images have a colour
    assert "measure" not in revision(write_set(several.parent / "plain"), "plain", "x")


@pytest.fixture
def taught(several, tmp_path):
    """The same with a training split of the same images."""
    folder = Path(shutil.copytree(several, tmp_path / "voc"))
    shutil.copytree(folder / "test", folder / "train")
    return folder


def test_several_labels_are_probed_and_fine_tuned_by_their_measure(taught, change):
    torch.manual_seed(0)
    params = change("clip", merge(SMALL, {"transfer": {"finetuning": {"steps": 60, "augmentation": WHOLE}}}))
    model, side = build_towers(params, 4).eval(), params.model.image
    training, test = (read_set(taught, side, 16, split) for split in ("train", "test"))
    found = {
        "probe": probe.outcomes(compute(model, training, "cpu"), compute(model, test, "cpu"), "map-11"),
        "tuned": finetuning.outcomes(model, training, test, 4, "map-11", params.transfer.finetuning, 0, "cpu"),
    }
    chance = revision(taught, "voc", "x", True, "map-11")["chance"]
    for kept in found.values():
        assert kept.shape == (ITEMS, 2, 4)
        assert number("map-11", kept) > chance + 20


def test_a_training_split_of_several_labels_is_looked_at(taught):
    assert revision(taught, "voc", "x", True, "map-11")["train"]["samples"] == ITEMS
    write_atomic(taught / "classnames.txt", "\n".join([*NAMES, "x"]) + "\n")
    with pytest.raises(
        ValueError, match=r"train/0.tar: s?0+\.npy has labels of 4 classes, but there are 5 lines in classnames.txt"
    ):
        training(taught)


def test_what_a_set_of_several_labels_does_not_have_is_named(several):
    said = "measures.voc: .* not for images with several labels; choose map, map-11"
    with pytest.raises(ValueError, match=said):
        revision(several, "voc", "x", False, "accuracy")


def test_a_set_of_several_labels_is_no_primary_set(several, change, tmp_path):
    params = change("clip", {"evaluate": {"sets": {"fine": str(several)}, "measures": {"fine": "map"}, "probe": []}})
    said = "evaluate.primary_set = 'fine', a set for multilabel; reports need one with one class per image"
    with pytest.raises(ValueError, match=said):
        record(params, "fine", several, tmp_path / "out")


@pytest.mark.parametrize(("measure", "said"), [("map", "with one class"), ("auc", "auc is for 2 classes, not 4")])
def test_what_a_set_of_classes_does_not_have_is_named(tmp_path, measure, said):
    with pytest.raises(ValueError, match=said):
        revision(write_set(tmp_path / "set"), "cars", "x", measure=measure)


@pytest.mark.parametrize(
    ("lines", "said"),
    [(NAMES[:3], "labels of 4 classes, but there are 3 lines in"), ([*NAMES, "x"], "5 lines in classnames.txt")],
)
def test_a_class_list_of_another_length_is_named(several, tmp_path, lines, said):
    folder = export(tmp_path / "set", Pairs(), True)
    write_atomic(folder / "classnames.txt", "\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=said):
        revision(folder, "voc", "x", measure="map")


def test_labels_that_are_none_are_named(several, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([2, 0]))
    for content in (buffer.getvalue(), b"x", b""):
        with pytest.raises(ValueError, match=r"0\.tar: 7\.npy is .*; export the set again"):
            layout.labels(content, "0.tar: 7", 2)
    folder = write_set(tmp_path / "set")
    (folder / "dataset_type.txt").write_text("multilabel\n")
    with pytest.raises(ValueError, match=r"000\.npy is .*; export the set again"):
        KIND.targets(folder, "test")


def test_a_class_without_an_image_has_no_average_precision():
    with pytest.raises(ValueError, match="no image has 'b'"):
        every_class("set", ["a", "b"], np.array([[1, 0]]))


@pytest.fixture
def run(change, tmp_path):
    """run(measure, items): what one seed left of a set `own` with such a measure, as a report reads it."""

    def made(measure, items, targets, **facts):
        params = change("clip", {"evaluate": {"sets": {"own": "./own"}, "measures": {"own": measure}}})
        kept = scoring.kept(measure, np.random.default_rng(0).random((items, 2)), targets)
        np.savez(tmp_path / "outcomes.npz", own=kept)
        content = {"samples": items, "classes": 2, "sha256": "00", "measure": measure} | facts
        metrics = {"metrics": {"own": number(measure, kept)}, "skipped": {}, "sets": {"own": content}}
        return Run(params, [metrics], [{}], [], [], [tmp_path], {})

    return made


def test_a_report_reads_what_a_measure_keeps(run):
    targets = np.arange(100) % 2
    found = run("auc", 100, targets, least=50)
    assert found.missing(OWN) is None
    assert found.outcomes(OWN).shape == (1, 100, 2)
    measures = {task: Metric("own", task).measure(found.sets) for task in ("", "probe", "finetuned", "image")}
    assert measures == {"": "auc", "probe": "auc", "finetuned": "auc", "image": "accuracy"}


def test_too_few_images_for_an_interval_are_named(run):
    assert run("auc", 100, np.arange(100) == 7, least=1).missing(OWN) == "1 images of own in a class, fewer than 10"
    assert run("mean-per-class", 6, np.arange(6) % 2).missing(OWN) == "6 images of own, fewer than 10"


def test_outcomes_that_do_not_give_the_number_are_refused(run, tmp_path):
    found = run("auc", 100, np.arange(100) % 2, least=50)
    found.metrics[0]["metrics"]["own"] += 1
    with pytest.raises(ValueError, match="differ in 'own'; evaluate again"):
        found.outcomes(OWN)


def add_set(results, name, items):
    """To all that `write_world` wrote, a set of several labels, of so many images."""
    labels = np.random.default_rng(0).random((items, 5)) < 0.4
    for metrics in results.glob("*/seed-*/metrics.json"):
        noise = np.random.default_rng(len(str(metrics))).random((items, 5))
        kept = scoring.kept("map-11", labels + 2 * noise, labels)
        with np.load(metrics.with_name("outcomes.npz")) as file:
            found = dict(file) | {name: kept}
        np.savez(metrics.with_name("outcomes.npz"), **found)
        content = read_json(metrics)
        content["metrics"][name] = number("map-11", kept)
        facts = {"samples": items, "classes": 5, "chance": 40.0, "measure": "map-11"}
        content["sets"][name] = content["sets"].get(name, {"sha256": "00" * 32}) | facts
        metrics.write_text(json.dumps(content))


def project_of(table, name="t", delta=None):
    whole = read_project("params.yaml", "tiny").tree
    report = {"title": "t", "question": "q", "about": "a"}
    tree = whole | {"reports": {"two": report}, "tables": {name: table | {"report": "two"}}, "tradeoff": None}
    return Project(merge(tree, delta or {}), "tiny")


@pytest.fixture
def measured(tmp_path):
    """measured(items): tables of CLIP and FLIP on a set of several labels, of so many images."""
    project = project_of({"title": "t", "variants": ["clip", "flip-50"], "metrics": ["fine", "sketch"]})

    def made(items):
        folders = write_world(tmp_path, project)
        add_set(folders[1], "sketch", items)
        return read_results(project, *folders), tmp_path / "out"

    return made


def test_flips_table_4_has_the_papers_values_and_names_the_sets_that_are_missing(tmp_path):
    """At a scale that has two of its 25 sets; none of the others is a zero."""
    table = read_project("params.yaml", "cc12m").tree["tables"]["zero-shot"]
    absent = set(table["metrics"]) - {"cifar10", "voc2007"}
    sets = dict.fromkeys(absent) | {"voc2007": "./voc", "cifar10": "./cifar10"}
    delta = {"scales": {"tiny": {"evaluate": {"sets": sets, "measures": {"voc2007": "map-11"}}}}}
    project = project_of(table | {"scales": ["tiny"]}, "zero-shot", delta)
    folders = write_world(tmp_path, project)
    add_set(folders[1], "voc2007", 200)
    add_set(folders[1], "cifar10", 200)
    found = Builder(read_results(project, *folders)).table("zero-shot")
    assert [[(str(cell.metric), cell.paper) for cell in row.metrics] for row in found.rows] == [
        [("cifar10", 96.0), ("voc2007", 81.1)],
        [("cifar10", 97.2), ("voc2007", 83.1)],
    ]
    assert all(cell.low < cell.value < cell.high for row in found.rows for cell in row.metrics)
    said = [note.split(":")[0] for note in found.notes if "is not measured" in note]
    assert sorted(said) == sorted(f"{name} is not measured" for name in absent)
    assert "- birdsnap is not measured: evaluate.sets.birdsnap is null at this scale." in tables.markdown(found)


def test_a_tables_cell_has_an_interval_and_says_its_measure(measured):
    results, out = measured(200)
    clip, flip = (row.cells[1] for row in Builder(results).table("t").rows)
    assert clip.low < clip.value < clip.high
    assert flip.difference == pytest.approx(flip.value - clip.value, abs=1e-3)
    tables.write(results, out)
    text = (out / "index.html").read_text()
    assert "200 images, 5 classes, 11-point mean average precision, chance 40%" in text


def test_a_cell_of_too_few_images_says_so_and_is_no_zero(measured):
    results, out = measured(6)
    cells = [row.cells[1] for row in Builder(results).table("t").rows]
    assert [(cell.value, cell.missing) for cell in cells] == 2 * [(None, "6 images of sketch, fewer than 10")]
    tables.write(results, out)
    assert "6 images of sketch, fewer than 10" in (out / "index.html").read_text()
