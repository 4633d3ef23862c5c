"""Tables: costs and differences on hand-made numbers, the paper's numbers, refusals, files that pandas opens, and what
each row was trained on where a table is told to mix data."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flip.config.consistency import BESIDE
from flip.config.frozen import merge
from flip.config.resolve import Project, read_project
from flip.metrics.names import Metric
from flip.provenance.receipt import save
from flip.report import costs, formats, latex, page, records, tables, tradeoff
from flip.report.cells import Builder, chance
from flip.report.columns import Column, of_metric
from flip.report.costs import cost, relative
from flip.report.intervals import Estimate
from flip.report.labels import labels
from flip.report.paper import read_paper
from flip.report.results import read_results
from flip.report.verdicts import ONE_RUN, VERDICTS
from tests import results_world as world

pytestmark = pytest.mark.long(2)

FINE = of_metric(Metric("fine"))
# FLIP, Table 1, copied by hand: table, variant, metric, value.
TABLE_1 = """
a clip imagenet1k 68.6           a flip-50 imagenet1k 69.6           a flip-75 imagenet1k 68.2
a clip relative_flops 1.00 a flip-50 relative_flops 0.52 a flip-75 relative_flops 0.28
a clip relative_time 1.00  a flip-50 relative_time 0.50  a flip-75 relative_time 0.33
b flip-50-small-batch imagenet1k 68.5 b flip-50 imagenet1k 69.6              b flip-50-large-batch imagenet1k 70.4
b flip-75-small-batch imagenet1k 65.8 b flip-75-medium-batch imagenet1k 67.3 b flip-75 imagenet1k 68.2
c flip-75 imagenet1k 68.2          c text-random imagenet1k 66.0          c text-prioritized imagenet1k 67.8
c flip-75 relative_time 1.00 c text-random relative_time 0.92 c text-prioritized relative_time 0.92
d flip-50 imagenet1k-masked 66.4 d flip-50 imagenet1k-ensemble 68.1 d flip-50 imagenet1k 69.6
d flip-75 imagenet1k-masked 60.9 d flip-75 imagenet1k-ensemble 65.1 d flip-75 imagenet1k 68.2
e flip-50 imagenet1k 69.6 e flip-50-tuned imagenet1k 70.1 e flip-75 imagenet1k 68.2 e flip-75-tuned imagenet1k 69.5
f flip-50 imagenet1k 69.6 f flip-50-mae imagenet1k 69.4   f flip-75 imagenet1k 68.2 f flip-75-mae imagenet1k 67.9
"""
# SigLIP, Table 4.
TABLE_4 = """
sigmoid-bias sigmoid-fixed-bias imagenet1k 63.0       sigmoid-bias sigmoid-no-bias imagenet1k 62.0
sigmoid-bias sigmoid-unit-temperature imagenet1k 61.0 sigmoid-bias sigmoid-zero-bias imagenet1k 61.7
sigmoid-bias sigmoid-unit-zero imagenet1k 53.7
"""
# M3AE, Figure 5, at second hand.
FIGURE_5 = """
m3ae-text-mask m3ae-text-15 imagenet1k-probe 45.9
m3ae-text-mask m3ae-text-50 imagenet1k-probe 61.0 m3ae-text-mask m3ae imagenet1k-probe 64.1
m3ae-text-mask m3ae-text-90 imagenet1k-probe 63.9
"""
# FLAVA, Table 4: Flickr30k, zero-shot.
FLAVA = """
flava flava-c flickr30k-image-r1 60.56  flava flava-c flickr30k-text-r1 68.30  flava flava-c imagenet1k-probe 74.09
flava flava-mm flickr30k-image-r1 63.16  flava flava-mm flickr30k-text-r1 69.30  flava flava-mm imagenet1k-probe 74.34
flava flava-init flickr30k-image-r1 65.22  flava flava-init flickr30k-text-r1 67.70
flava flava-init imagenet1k-probe 75.54
"""
# FLIP, Tables 4 to 6, and 2 for ImageNet-1K: the rows of the same data.
TABLES_4_TO_6 = """
zero-shot clip food101 88.1  zero-shot clip cifar10 96.0
zero-shot clip cifar100 81.3  zero-shot clip birdsnap 60.5
zero-shot clip sun397 72.3  zero-shot clip cars 89.1
zero-shot clip aircraft 25.8  zero-shot clip voc2007 81.1
zero-shot clip dtd 59.3  zero-shot clip pets 93.2
zero-shot clip caltech101 93.2  zero-shot clip flowers102 74.6
zero-shot clip mnist 69.1  zero-shot clip stl10 96.5
zero-shot clip eurosat 50.7  zero-shot clip resisc45 69.2
zero-shot clip gtsrb 50.2  zero-shot clip kitti 29.4
zero-shot clip country211 21.4  zero-shot clip pcam 53.1
zero-shot clip ucf101 71.5  zero-shot clip kinetics700 53.5
zero-shot clip clevr 18.5  zero-shot clip hateful-memes 53.3
zero-shot clip sst2 57.2
zero-shot flip-50-tuned food101 89.3  zero-shot flip-50-tuned cifar10 97.2
zero-shot flip-50-tuned cifar100 84.1  zero-shot flip-50-tuned birdsnap 63.0
zero-shot flip-50-tuned sun397 73.1  zero-shot flip-50-tuned cars 90.7
zero-shot flip-50-tuned aircraft 29.1  zero-shot flip-50-tuned voc2007 83.1
zero-shot flip-50-tuned dtd 60.4  zero-shot flip-50-tuned pets 92.6
zero-shot flip-50-tuned caltech101 93.8  zero-shot flip-50-tuned flowers102 75.0
zero-shot flip-50-tuned mnist 80.3  zero-shot flip-50-tuned stl10 98.5
zero-shot flip-50-tuned eurosat 53.5  zero-shot flip-50-tuned resisc45 70.8
zero-shot flip-50-tuned gtsrb 41.4  zero-shot flip-50-tuned kitti 34.8
zero-shot flip-50-tuned country211 23.1  zero-shot flip-50-tuned pcam 50.3
zero-shot flip-50-tuned ucf101 74.1  zero-shot flip-50-tuned kinetics700 55.8
zero-shot flip-50-tuned clevr 22.7  zero-shot flip-50-tuned hateful-memes 54.0
zero-shot flip-50-tuned sst2 58.5
robustness clip imagenet1k 73.1  robustness clip imagenetv2 65.6
robustness clip imagenet-a 46.3  robustness clip imagenet-r 84.7
robustness clip objectnet 58.0  robustness clip imagenet-sketch 58.7
robustness flip-50-tuned imagenet1k 74.6  robustness flip-50-tuned imagenetv2 66.8
robustness flip-50-tuned imagenet-a 51.2  robustness flip-50-tuned imagenet-r 86.5
robustness flip-50-tuned objectnet 59.1  robustness flip-50-tuned imagenet-sketch 59.9
retrieval clip flickr30k-text-r1 87.4  retrieval clip flickr30k-text-r5 98.4
retrieval clip flickr30k-text-r10 99.5  retrieval clip coco-text-r1 59.1
retrieval clip coco-text-r5 82.5  retrieval clip coco-text-r10 89.4
retrieval clip flickr30k-image-r1 74.4  retrieval clip flickr30k-image-r5 92.2
retrieval clip flickr30k-image-r10 95.5  retrieval clip coco-image-r1 43.2
retrieval clip coco-image-r5 68.5  retrieval clip coco-image-r10 77.5
retrieval flip-50-tuned flickr30k-text-r1 89.1  retrieval flip-50-tuned flickr30k-text-r5 98.5
retrieval flip-50-tuned flickr30k-text-r10 99.6  retrieval flip-50-tuned coco-text-r1 60.2
retrieval flip-50-tuned coco-text-r5 82.6  retrieval flip-50-tuned coco-text-r10 89.9
retrieval flip-50-tuned flickr30k-image-r1 75.4  retrieval flip-50-tuned flickr30k-image-r5 92.5
retrieval flip-50-tuned flickr30k-image-r10 95.9  retrieval flip-50-tuned coco-image-r1 44.2
retrieval flip-50-tuned coco-image-r5 69.2  retrieval flip-50-tuned coco-image-r10 78.4
"""
# FLIP, Table 7: the rows of the same data.
TABLE_7 = """
transfers clip-short caption-cider 125.6    transfers clip-short caption-bleu4 36.4    transfers clip-short vqa 74.5
transfers flip-50-short caption-cider 127.7 transfers flip-50-short caption-bleu4 37.4 transfers flip-50-short vqa 74.7
"""


# FLIP, Table 8: zero-shot ImageNet, Flickr30k by image and by text.
TABLE_8 = """
scaling flip-50-small-data imagenet1k 74.3        scaling flip-50-small-data flickr30k-image-r1 75.0
scaling flip-50-small-data flickr30k-text-r1 88.4
scaling flip-50-larger-small-data imagenet1k 75.5 scaling flip-50-larger-small-data flickr30k-image-r1 76.4
scaling flip-50-larger-small-data flickr30k-text-r1 89.2
scaling flip-50-short imagenet1k 75.8             scaling flip-50-short flickr30k-image-r1 78.2
scaling flip-50-short flickr30k-text-r1 91.7
scaling flip-50-small-data-half imagenet1k 73.9   scaling flip-50-small-data-half flickr30k-image-r1 75.5
scaling flip-50-small-data-half flickr30k-text-r1 89.7
scaling flip-50-larger imagenet1k 77.6            scaling flip-50-larger flickr30k-image-r1 79.9
scaling flip-50-larger flickr30k-text-r1 92.8
scaling flip-50-larger-half imagenet1k 78.8       scaling flip-50-larger-half flickr30k-image-r1 80.9
scaling flip-50-larger-half flickr30k-text-r1 93.1
"""


# Zero-shot ImageNet: CLIPA as a note of it says, GLIP's, CLIPF's and WFPP's READMEs.
REDUCTIONS = """
image-masks flip-75 imagenet1k 67.6    image-masks flip-75-grid imagenet1k 67.3
image-masks flip-75-block imagenet1k 68.5 image-masks resize-75 imagenet1k 68.9
resize clip imagenet1k 36.5            resize flip-75 imagenet1k 32.0
resize flip-75-tuned imagenet1k 32.6   resize resize-75 imagenet1k 33.0
resize resize-75-tuned imagenet1k 33.4 pruning clip-short imagenet1k 34.8
pruning pruned-random imagenet1k 28.2  pruning pruned-frequency imagenet1k 29.8
centred-masks flip-50 imagenet1k 36.1  centred-masks flip-50-gaussian imagenet1k 37.1
centred-masks flip-75 imagenet1k 32.0  centred-masks flip-75-gaussian imagenet1k 33.9
text-masks flip-75 imagenet1k 32.0     text-masks text-truncation imagenet1k 32.8
text-masks text-prioritized imagenet1k 33.7 text-masks text-block imagenet1k 34.3
text-masks text-syntax imagenet1k 32.2     text-masks text-frequency imagenet1k 35.5
pgs-parts flip-30-cluster imagenet1k 35.9  pgs-parts flip-30-pgs-edges imagenet1k 36.8
pgs-parts flip-30-pgs-transport imagenet1k 36.7 pgs-parts flip-30-pgs imagenet1k 38.6
attentive-masks flip-50 imagenet1k 35.0    attentive-masks flip-50 flickr30k-image-r1 32.5
attentive-masks flip-50-two-views imagenet1k 38.0 attentive-masks flip-50-two-views flickr30k-image-r1 34.4
attentive-masks flip-50-attentive imagenet1k 39.5 attentive-masks flip-50-attentive flickr30k-image-r1 36.6
attentive-masks flip-50-attentive-two-views imagenet1k 41.3
attentive-masks flip-50-attentive-two-views flickr30k-image-r1 38.4
"""


@pytest.fixture(scope="session")
def project(project):
    return project.of("ablations")


@pytest.fixture(scope="session")
def folders(tmp_path_factory, project):
    root = tmp_path_factory.mktemp("pipeline")
    return world.write_world(root, project)


@pytest.fixture(scope="session")
def results(project, folders):
    return read_results(project, *folders)


@pytest.fixture(scope="session")
def builder(results):
    return Builder(results)


@pytest.fixture(scope="session")
def written(project, folders):
    tables.write(read_results(project, *folders), folders[-1].parent)
    return folders[-1].parent


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def fresh(tmp_path, project):
    """A copy to spoil: (data, results, receipts, cost)."""
    return world.write_world(tmp_path, project)


def test_papers_numbers_are_those_of_their_tables():
    printed = {
        (table, variant, metric): value
        for table, variant, metric, value in np.reshape(
            f"{TABLE_1} {TABLE_4} {FIGURE_5} {FLAVA} {TABLES_4_TO_6} {TABLE_7} {TABLE_8} {REDUCTIONS}".split(), (-1, 4)
        ).tolist()
    }
    kept = {
        (table, variant, metric): f"{value:.{2 if table == 'flava' or metric.startswith('relative_') else 1}f}"
        for table, rows in read_paper()["tables"].items()
        for variant, row in rows.items()
        for metric, value in row.items()
    }
    assert kept == printed
    known = read_project("params.yaml", "cc12m").tables
    for table, variant, _ in kept:
        assert variant in known[table].variants


# Costs


def test_costs_are_relative_to_the_first_row_round_by_round(results):
    """clip: 4e8 FLOPs, rounds of 1; flip-50: 0.55 of that, rounds 0.98, 1, 1.03 times; equal epochs."""
    found = relative(cost("flip-50", results), cost("clip", results))
    assert found["relative_flops"] == pytest.approx(0.55)
    assert [found[f"relative_time{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.55, 0.539, 0.5665])
    assert found["relative_total_time"] == pytest.approx(0.55)
    assert found["relative_memory"] == pytest.approx(0.55 * 2)
    # Both lose or gain the same share in a round, so against each other they do not vary.
    other = relative(cost("flip-75", results), cost("flip-50", results))
    assert other["relative_time"] == other["relative_time_low"] == pytest.approx(0.325 / 0.55)


def test_total_time_counts_samples_and_the_training_that_a_row_starts_from(results):
    """32,000 samples masked, then 1,600 (0.16 epochs of 10,000 in batches of 64) with whole images."""
    tuned, start, clip = (cost(name, results) for name in ("flip-50-tuned", "flip-50", "clip"))
    assert (start.samples, tuned.samples) == (32000, 33600)
    assert tuned.total_flops == pytest.approx(4e8 * (0.55 * 32000 + 1.0 * 1600))
    assert relative(tuned, clip)["relative_total_time"] == pytest.approx((0.55 * 32000 + 1600) / 32000)
    assert relative(tuned, clip)["relative_time"] == 1
    double = relative(cost("flip-50-equal-time", results), clip)
    assert double["relative_total_time"] == pytest.approx(2 * 0.55)


def test_a_variant_whose_cost_was_not_measured_is_named(project, fresh):
    measured = json.loads((fresh[3]).read_text())
    del measured["variants"]["flip-75"]
    (fresh[3]).write_text(json.dumps(measured))
    with pytest.raises(ValueError, match=r"cost\.json: no variant 'flip-75'; .*snakemake"):
        cost("flip-75", read_results(project, *fresh))


def test_a_model_without_a_text_tower_has_dashes(project, results, tmp_path):
    """Where it has no accuracy, nothing is compared with it; what it costs is there."""
    params = results.runs["flip-50"].params
    alone = params.model_copy(update={"contrastive": params.contrastive.model_copy(update={"weight": 0.0})})
    runs = results.runs | {"flip-50": replace(results.runs["flip-50"], params=alone)}
    found = replace(results, runs=runs)
    table = Builder(found).table("a")
    assert [cell.value for cell in table.rows[1].metrics] == [None] * 4
    assert all(cell.value is not None for cell in table.rows[0].cells + table.rows[2].cells)
    assert table.rows[1]["relative_flops"].value == pytest.approx(0.55)
    assert "| **-**<br>no text tower |" in tables.markdown(table)
    assert pd.read_csv(io.StringIO(records.csv(table.wide()))).fine.isna().tolist() == [False, True, False]
    tuned = Builder(found).table("e").rows[1].cells[0]
    assert (tuned.value is not None, tuned.difference) == (True, None)
    assert "no text tower" in page.render([page.Part(found, [table], {})], {})


# Rows and references


def test_rows_compare_with_what_the_paper_compares_them_with(builder, project):
    found = {
        (name, variant, str(metric)): builder.reference(variant, metric, table)
        for name, table in project.tables.items()
        for variant in table.variants
        for metric in project.metrics(name)
    }
    found = {place: one and (one[0], str(one[1])) for place, one in found.items()}
    assert found["a", "clip", "fine"] is None
    assert found["a", "flip-75", "fine"] == ("clip", "fine")
    assert found["b", "flip-50-large-batch", "fine"] == ("flip-50-small-batch", "fine")
    assert found["b", "flip-75", "fine"] == ("flip-75-small-batch", "fine")
    assert found["c", "text-random", "fine"] == ("flip-75", "fine")
    assert found["d", "flip-75", "fine-masked"] == ("flip-75", "fine")
    assert found["e", "flip-75-tuned", "fine"] == ("flip-75", "fine")
    assert found["f", "flip-75-mae", "fine"] == ("flip-75", "fine")


def test_a_probe_compares_with_the_baselines_probe(project, folders):
    """Masked inference is another way to the zero-shot number beside it; a probe is another task."""
    tree = project.tree["tables"]["a"] | {"metrics": ["fine", "fine-masked", "fine-probe"]}
    project = Project(project.tree | {"tables": {"a": tree}}, project.scale)
    builder, table = Builder(read_results(project, *folders)), project.tables["a"]
    assert builder.reference("flip-50", Metric("fine", "masked"), table) == ("flip-50", Metric("fine"))
    assert builder.reference("flip-50", Metric("fine", "probe"), table) == ("clip", Metric("fine", "probe"))
    assert builder.reference("clip", Metric("fine", "probe"), table) is None


def test_labels_name_what_differs_and_nothing_else(project):
    def of(*names):
        return labels([project.variants[name] for name in names])

    batch = project.variants["clip"].train.global_batch
    assert of("clip", "flip-50") == [f"image mask 0%, batch {batch}", f"image mask 50%, batch {2 * batch}"]
    assert of("flip-75", "text-prioritized") == ["text mask 0%", "text mask 50% prioritized"]
    assert of("flip-50", "flip-50-mae") == ["reconstruction weight 0", "reconstruction weight 1"]
    assert of("clip", "clip-half") == ["epochs 3.2", "epochs 1.6"]
    assert of("flip-50", "flip-50-tuned")[1].endswith("tuned from flip-50")
    assert of("clip") == [""]


def test_a_key_without_a_word_of_its_own_is_shown_by_its_name(change):
    rows = [change("clip"), change("clip", {"train": {"weight_decay": 0.1}})]
    assert labels(rows) == ["train.weight_decay 0.2", "train.weight_decay 0.1"]


def test_outcomes_that_do_not_say_whose_they_are_are_refused(project, fresh):
    """An earlier version left those of each caption."""
    folder = fresh[1] / "clip" / "seed-0"
    found = read_results(project, *fresh).runs["clip"]
    with np.load(folder / "outcomes.npz") as file:
        stored = dict(file)
    stored["retrieval-image-r1"] = np.repeat(stored["retrieval-image-r1"][:, 0], 5)
    np.savez(folder / "outcomes.npz", **stored)
    message = "'retrieval-image-r1' has 2000 outcomes of 400 images, and does not say whose they are"
    with pytest.raises(ValueError, match=message):
        found.outcomes(Metric("retrieval", "image", "r1"))


def test_metrics_belong_to_the_longest_set_that_begins_them():
    assert Metric.parse("fine-masked", ["fine", "coarse"]) == Metric("fine", "masked")
    assert Metric.parse("fine-art-r1", ["fine", "fine-art"]).set == "fine-art"
    with pytest.raises(ValueError, match="'finest': of none of the test sets fine"):
        Metric.parse("finest", ["fine"])


@pytest.mark.parametrize(
    ("name", "metric", "job"),
    [
        ("fine", Metric("fine"), None),
        ("coarse-probe", Metric("coarse", "probe"), None),
        ("coarse-finetuned", Metric("coarse", "finetuned"), "coarse-finetuned"),
        ("retrieval-de-image-r10", Metric("retrieval-de", "image", "r10"), None),
        ("entailment-text", Metric("entailment", "text"), None),
        ("composition-replace-object", Metric("composition", "replace-object"), None),
        ("caption-bleu4", Metric("caption", "", "bleu4"), "heads"),
        ("nocaps-near-domain-spice", Metric("nocaps", "near-domain", "spice"), "heads"),
        ("vqa-colour", Metric("vqa", "colour"), "heads"),
    ],
)
def test_a_metric_is_what_its_name_says_and_prints_as_it(name, metric, job):
    sets = ["fine", "coarse", "retrieval", "retrieval-de", "entailment", "composition", "caption", "nocaps", "vqa"]
    found = Metric.parse(name, sets)
    assert (found, str(found), found.set + found.ending, found.job) == (metric, name, name, job)


def test_every_metric_of_params_yaml_prints_as_its_name(project):
    for scale in project.tree["scales"]:
        one = read_project(scale=scale)
        for name, table in one.tables.items():
            assert [str(metric) for metric in one.metrics(name)] == table.metrics


# Trade-off


def test_time_to_an_accuracy_lies_on_the_line_between_two_points():
    assert tradeoff.time_to(50, [1, 3], [40, 60]) == 2
    assert tradeoff.time_to(30, [1, 3], [40, 60]) == 1
    assert tradeoff.time_to(70, [1, 3], [40, 60]) is None
    assert tradeoff.time_to(60, [1, 3], [40, 60]) == 3


def test_speed_up_is_the_baselines_time_over_the_curves():
    def point(name, time, value):
        return tradeoff.TradeoffPoint(name, 1, time, Estimate(value, np.full(4, value)), value - 1, value + 1)

    found = tradeoff.speedups(
        {
            "none": [point("half", 0.5, 40), point("clip", 1, 50)],
            "some": [point("s", 0.2, 40), point("t", 0.4, 60)],
            "early": [point("u", 0.25, 55)],
            "never": [point("w", 0.2, 10)],
        }
    )
    assert [one["speedup"] for one in found] == [pytest.approx(1 / 0.3), 4, None]
    assert [one["first"] for one in found] == [False, True, False]
    assert [one["share"] for one in found] == [1, 1, 0]
    assert all(one["one_run"] for one in found), "without an error over seeds"


# Refusals


def elsewhere(project, folder, variant, manifest="1" * 64, **data):
    """Replaces a variant's results by those of a run on another manifest."""
    world.write_run(folder.parent, project, variant, manifest=manifest, **data)


def test_rows_trained_on_other_data_are_refused_with_the_key_to_set(project, fresh):
    elsewhere(project, fresh[1], "flip-75")
    with pytest.raises(
        ValueError,
        match=r"training data: variant 'clip' has 5e5e5e5e5e5e and variant 'flip-75' has 111111111111;.*"
        r"snakemake ablations.*\(table a\); or set tables.a.mixed_data: true",
    ):
        read_results(project, *fresh)


def test_a_row_that_starts_from_other_data_is_refused(project, fresh):
    only = {"title": "t", "report": "ablations", "variants": ["clip", "flip-75-tuned"], "metrics": ["fine"]}
    tree = project.tree | {"tables": {"e": only}, "tradeoff": project.tree["tradeoff"] | {"curves": {"x": ["clip"]}}}
    elsewhere(project, fresh[1], "flip-75")
    with pytest.raises(ValueError, match=r"variant 'flip-75' has 1111.*tables.e.mixed_data"):
        read_results(Project(tree, "tiny"), *fresh)


def test_evaluation_with_other_data_than_training_is_refused(project, fresh):
    change_json(fresh[1] / "flip-75" / "seed-0" / "metrics.json", manifest="0" * 64)
    with pytest.raises(ValueError, match=r"flip-75/seed-0/training.json has 5e5e5e5e5e5e and .*metrics.json has 0000"):
        read_results(project, *fresh)


def test_results_of_an_earlier_manifest_are_refused(project, fresh):
    change_json(fresh[0] / "manifest.json", id="1" * 64)
    with pytest.raises(ValueError, match=r"training data: variant 'clip' has 5e5e5e5e5e5e and manifest\.json has 1111"):
        read_results(project, *fresh)


@pytest.fixture
def mixed(project):
    """mixed(whether its table allows mixed data): a project with a table of two rows, and a figure."""

    def make(**allowed):
        rows = {"variants": ["clip", "flip-50-equal-time"], "metrics": ["fine"]}
        table = project.tree["tables"]["a"] | rows | allowed
        tradeoff = project.tree["tradeoff"] | {"curves": {"mask 0%": ["clip"]}}
        return Project(project.tree | {"tables": {"two": table}, "tradeoff": tradeoff}, "tiny")

    return make


@pytest.mark.parametrize("allowed", [{}, {"mixed_data": False}])
def test_mixed_data_must_be_asked_for(project, mixed, fresh, allowed):
    elsewhere(project, fresh[1], "flip-50-equal-time")
    with pytest.raises(
        ValueError, match=r"'clip'.*'flip-50-equal-time'.*set tables.two.mixed_data: true in the file of its report"
    ):
        read_results(mixed(**allowed), *fresh)


@pytest.mark.parametrize(
    ("pairs", "meaning"),
    [("22" * 32, "differences between rows are also those of the data"), (world.PAIRS, "hold the same pairs")],
)
def test_a_table_of_mixed_data_says_what_each_row_was_trained_on(project, mixed, fresh, tmp_path, pairs, meaning):
    elsewhere(project, fresh[1], "flip-50-equal-time", pairs=pairs, images=9876)
    tables.write(read_results(mixed(mixed_data=True), *fresh), tmp_path / "out")
    said = "clip on 10,970 images, manifest 5e5e5e5e5e5e; flip-50-equal-time on 9,876 images, manifest 111111111111"
    for name in ("two.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert f"Rows are trained on different manifests: {said}." in text
        assert meaning in text
    rows = pd.read_csv(tmp_path / "out" / "two.csv", dtype=str).set_index("variant")
    assert dict(rows.manifest) == {"clip": world.MANIFEST, "flip-50-equal-time": "1" * 64}
    assert dict(rows.images) == {"clip": "10970", "flip-50-equal-time": "9876"}
    assert rows.share_used.notna().to_dict() == {"clip": True, "flip-50-equal-time": False}


def test_the_figure_takes_no_mixed_data(project, mixed, fresh):
    elsewhere(project, fresh[1], "clip")
    with pytest.raises(ValueError, match=r"\(trade-off figure\); or take them out of tradeoff.curves"):
        read_results(mixed(mixed_data=True), *fresh)


def test_rows_evaluated_on_another_test_set_are_refused(project, fresh):
    world.write_run(fresh[1].parent, project, "flip-50", sets_from="99")
    with pytest.raises(ValueError, match=r"test set 'fine'.*flip-50.*999999999999"):
        read_results(project, *fresh)


@pytest.mark.parametrize(
    "name",
    ["receipts/variants/clip/seed-0/evaluate.json", "results/flip-50-equal-time/seed-0/log.csv", "tables/cost.json"],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(project, fresh, name):
    (fresh[1].parent / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: missing; run `snakemake`"):
        read_results(project, *fresh)


def test_a_metric_that_its_outcomes_do_not_give_is_refused(project, fresh):
    path = fresh[1] / "clip" / "seed-0" / "metrics.json"
    metrics = json.loads(path.read_text())["metrics"]
    change_json(path, metrics=metrics | {"fine": 99.0})
    with pytest.raises(ValueError, match=r"clip/seed-0: outcomes\.npz and metrics\.json differ in 'fine'"):
        read_results(project, *fresh).estimates()


def test_a_ledger_that_does_not_add_up_is_refused(project, fresh):
    total = json.loads((fresh[0] / "ledger.json").read_text())["total"]
    change_json(fresh[0] / "ledger.json", total=total | {"used": 10000})
    with pytest.raises(ValueError, match="15000 rows are not 10000 used plus those lost"):
        read_results(project, *fresh)


def test_weights_trained_with_other_parameters_are_refused(project, fresh):
    path = fresh[2] / "variants/flip-50/seed-0/pretrain.json"
    edited = path.read_text().replace('"image": 0.5', '"image": 0.6')
    path.write_text(edited)
    with pytest.raises(ValueError, match="edited since it was written"):
        read_results(project, *fresh)
    save(path, json.loads(edited))
    with pytest.raises(ValueError, match=r"trained with other parameters.*'flip-50'.*variant=flip-50"):
        read_results(project, *fresh)


# What a row lacks


@pytest.fixture
def pixels():
    """A project with one table, of CLIP and a model without a text tower, by zero-shot and by probe."""
    whole = read_project("params.yaml", "tiny")
    report = {"title": "t", "question": "q", "about": "a"}
    table = {
        "title": "Pixels",
        "report": "two",
        "variants": ["clip", "mae"],
        "metrics": ["fine", "fine-probe", "sketch"],
    }
    parts = {"reports": {"two": report}, "tables": {"pixels": table}, "tradeoff": None}
    return Project(whole.tree | parts, "tiny")


def test_a_model_without_a_text_tower_has_a_row_of_probes(pixels, tmp_path):
    results = read_results(pixels, *world.write_world(tmp_path, pixels))
    clip, mae = Builder(results).table("pixels").rows
    assert [cell.missing for cell in clip.metrics] == [None] * 3
    assert [cell.missing for cell in mae.metrics] == ["no text tower", None, "no text tower"]
    assert mae.cells[0].value is mae.cells[0].difference is None
    assert mae.cells[1].difference == pytest.approx(mae.cells[1].value - clip.cells[1].value, abs=2e-4)
    tables.write(results, tmp_path / "out")
    for name in ("pixels.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "no text tower" in text
        assert "fine linear probe" in text
        assert "1,500 images, 128 classes, chance 0.78%, linear probe fitted to 2,560 more" in text
    assert "points of fine linear probe against clip" in (tmp_path / "out" / "index.html").read_text()
    frame = pd.read_csv(tmp_path / "out" / "tables.csv").set_index(["variant", "metric"])
    assert np.isnan(frame.value["mae", "fine"])
    assert frame.missing["mae", "fine"] == "no text tower"


def test_a_probe_that_was_left_out_says_why(pixels, tmp_path):
    folders = world.write_world(tmp_path, pixels)
    path = folders[1] / "clip" / "seed-0" / "metrics.json"
    metrics = json.loads(path.read_text())["metrics"]
    del metrics["fine-probe"]
    change_json(path, metrics=metrics, skipped={"fine-probe": "no training split"})
    results = read_results(pixels, *folders)
    clip, mae = Builder(results).table("pixels").rows
    assert clip.cells[1].missing == "no training split"
    assert mae.cells[1].value is not None
    assert mae.cells[1].difference is None  # there is nothing to compare with
    change_json(path, metrics=metrics, skipped={})
    with pytest.raises(ValueError, match=r"clip/seed-0: no metric 'fine-probe'; known: coarse, "):
        read_results(pixels, *folders).estimates()


def test_probes_fitted_to_other_images_are_refused(pixels, tmp_path):
    folders = world.write_world(tmp_path, pixels)
    world.write_run(tmp_path, pixels, "mae", fitted_to="99")
    with pytest.raises(ValueError, match=r"training split of 'fine'.*mae.*999999999999"):
        read_results(pixels, *folders)


# Files


def test_the_long_table_opens_in_pandas_with_one_record_per_cell(project, written):
    frame = pd.read_csv(written / "tables.csv")
    assert len(frame) == sum(len(table.variants) * len(table.metrics) for table in project.tables.values())
    assert not frame.duplicated(["table", "variant", "metric"]).any()
    assert (frame.low <= frame.value).all()
    assert (frame.value <= frame.high).all()
    cell = frame.set_index(["table", "variant", "metric"]).loc["a", "flip-50", "fine"]
    assert (cell.paper, cell.paper_difference, cell.paper_relative_flops) == (69.6, 1.0, 0.52)
    assert cell.chance == pytest.approx(100 / 128)
    assert cell.share_used == pytest.approx(10970 / 12000, abs=1e-4)
    assert cell.manifest == world.MANIFEST


def test_chance_is_that_of_the_classes_or_the_sets_own():
    counts = {"fine": 128, "pointing": 0, "retrieval": 0}
    sets = {name: {"samples": 500, "classes": count} for name, count in counts.items()}
    sets["pointing"]["chance"] = 12.3246
    assert [chance(test) for test in sets.values()] == [100 / 128, 12.3246, None]
    assert formats.test_sets({name: test | {"chance": chance(test)} for name, test in sets.items()}) == (
        "fine: 500 images, 128 classes, chance 0.78%; pointing: 500 images, chance 12%; retrieval: 500 images"
    )


def test_differences_are_those_of_the_values(written):
    frame = pd.read_csv(written / "tables.csv").set_index(["table", "variant", "metric"])
    for (table, _, metric), cell in frame[frame.difference.notna()].iterrows():
        other = (table, cell.name[1], cell.reference) if cell.reference == "fine" else (table, cell.reference, metric)
        assert cell.difference == pytest.approx(cell.value - frame.loc[other].value, abs=2e-4)


# Verdicts


def test_of_one_run_every_surface_says_so_and_nothing_more(project, written):
    """No difference has an interval, a p-value or a verdict, and so no headline."""
    frame = pd.read_csv(written / "tables.csv")
    assert set(frame.verdict) == {ONE_RUN}
    assert frame[["difference_low", "difference_high", "p_value"]].isna().all(axis=None)
    for name, table in project.tables.items():
        wide = pd.read_csv(written / f"{name}.csv")
        assert all(set(wide[f"{metric}_verdict"]) == {ONE_RUN} for metric in table.metrics)
        for end in ("md", "tex"):
            text = (written / f"{name}.{end}").read_text()
            assert text.count(ONE_RUN) == len(table.variants) * len(table.metrics)
    page = (written / "index.html").read_text()
    assert re.search(r"Of \d+ comparisons with the paper:\s+<span>0 reproduced</span>, .*>\d+ one run</span>", page)
    assert '<span class="no">' not in page


@pytest.fixture(scope="module")
def three(project, tmp_path_factory):
    """Results of the tables a and d with three seeds."""
    tree = merge(project.tree, {"base": {"seeds": [0, 1, 2]}})
    tree |= {"tables": {name: project.tree["tables"][name] for name in "ad"}, "tradeoff": None}
    found = Project(tree, project.scale)
    return read_results(found, *world.write_world(tmp_path_factory.mktemp("three"), found))


def test_of_several_runs_every_surface_has_the_verdict(three, tmp_path):
    tables.write(three, tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "tables.csv")
    compared = frame[frame.paper_difference.notna()]
    assert len(compared) == 2 + 5, "fine of a and d, masked and ensemble of both rows of d"
    assert set(compared.verdict) <= set(VERDICTS)
    assert frame[frame.paper_difference.isna()].verdict.isna().all()
    assert (frame.difference_low <= frame.difference)[frame.difference.notna()].all()
    assert (frame.paper_noise[frame.paper_difference.notna()] > 0.1).all()
    for name in "ad":
        own = compared[compared.table == name]
        wide = pd.read_csv(tmp_path / "out" / f"{name}.csv").set_index("variant")
        assert all(wide[f"{row.metric}_verdict"][row.variant] == row.verdict for row in own.itertuples())
        for end in ("md", "tex"):
            text = (tmp_path / "out" / f"{name}.{end}").read_text()
            assert sum(text.count(f">{one}") + text.count(f"scriptsize {one}") for one in VERDICTS) == len(own)
            assert ONE_RUN not in text
    text = (tmp_path / "out" / "index.html").read_text()
    assert f"Of {len(compared)} comparisons with the paper:" in text
    for one in VERDICTS:
        count = (compared.verdict == one).sum()
        assert re.search(rf"<span{' class=.[a-z]+.' if count else ''}>{count} {one}</span>", text)


def test_a_row_beside_one_of_a_single_seed_is_one_run(three):
    run = three.runs["clip"]
    few = {name: getattr(run, name)[:1] for name in ("metrics", "training", "logs", "receipts", "folders")}
    builder = Builder(replace(three, runs=three.runs | {"clip": replace(run, **few)}))
    clip, *others = builder.table("a").rows
    for row in others:
        cell = row["fine"]
        assert (cell.verdict, cell.difference_low, cell.p_value) == (ONE_RUN, None, None)
        assert builder.estimates[row.variant, Metric("fine")].error, "its own interval is over its seeds"
    assert clip["fine"].verdict == ONE_RUN
    masked = next(row for row in builder.table("d").rows if row.variant == "flip-50")["fine-masked"]
    assert masked.verdict in VERDICTS


def test_each_table_is_written_as_csv_and_markdown(project, written):
    for name, table in project.tables.items():
        frame = pd.read_csv(written / f"{name}.csv")
        assert list(frame.variant) == table.variants
        assert {f"{metric}_low" for metric in table.metrics} <= set(frame.columns)
        text = (written / f"{name}.md").read_text()
        assert "10,970 images (91.4% of those wanted), manifest 5e5e5e5e5e5e." in text
        assert all(f"{frame[metric][0]:.1f} [" in text for metric in table.metrics)
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            (columns,) = {line.count("|") - 1 for line in block.splitlines()}
            assert columns <= 8
            assert len(block.splitlines()) == 2 + len(table.variants)


def test_each_file_of_records_is_csv_and_parquet_alike(project, written):
    figures = {"figure-tradeoff", "figure-training", "figure-costs", "time-jobs", "time-stages"}
    names = {*project.tables, "tables", "ledger"} | figures
    assert {path.stem for path in written.glob("*.parquet")} == names
    for name in names:
        assert pd.read_parquet(written / f"{name}.parquet").to_csv(index=False) == (written / f"{name}.csv").read_text()


def test_latex_has_every_value_and_nothing_that_tex_would_read_as_a_command(project, written):
    for name, table in project.tables.items():
        frame, text = pd.read_csv(written / f"{name}.csv"), (written / f"{name}.tex").read_text()
        rows = text.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
        assert len(rows) == len(table.variants)
        assert {row.count(" & ") for row in rows} == {len(table.metrics) + 4}
        for row, (_, record) in zip(rows, frame.iterrows(), strict=True):
            assert all(f"{record[metric]:.1f} {{\\scriptsize [" in row for metric in table.metrics)
        assert not re.search(r"(?<!\\)[%#_]", text)
        assert text.count("{") == text.count("}")
    assert latex.escaped("a_b 50% \\ <x>") == "a\\_b 50\\% \\textbackslash{} $<$x$>$"


def test_the_same_results_give_the_same_bytes(project, folders, written, tmp_path):
    tables.write(read_results(project, *folders), tmp_path)
    names = sorted({path.name for path in written.iterdir()} - {"cost.json"})
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_seeds_are_averaged(project, fresh):
    project = Project(merge(project.tree, {"base": {"seeds": [0, 1]}}), project.scale)
    for name in project.variants:
        world.write_run(fresh[1].parent, project, name)
    results = read_results(project, *fresh)
    metrics = [json.loads((fresh[1] / "clip" / f"seed-{s}" / "metrics.json").read_text())["metrics"] for s in (0, 1)]
    expected = (metrics[0]["fine"] + metrics[1]["fine"]) / 2
    assert results.estimates()["clip", Metric("fine")].value == pytest.approx(expected)
    assert Builder(results).table("a").rows[0].evidence["seeds"] == "0 1"


def test_the_command_ends_with_one_line_where_an_input_is_missing(tmp_path, capsys):
    folders = ["--report", "ablations", "--data", "none", "--results", str(tmp_path), "--receipts", str(tmp_path)]
    with pytest.raises(SystemExit, match="1"):
        tables.main(["--scale", "tiny", *folders, "--out", str(tmp_path / "t")])
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_report_needs_no_torch():
    code = "import sys, flip.report.tables; sys.exit('torch' in sys.modules or 'flip.model' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_are_counted_as_in_the_papers_table_9(project):
    """L/16: 303 M in the image encoder, 109 M in the text encoder."""
    assert page.encoder(24, 1024, 3 * 16**2).endswith("about 303 M parameters")
    assert page.encoder(12, 768, 30522 + 32).endswith("about 108 M parameters")


def test_rows_on_a_share_of_the_data_are_counted_from_the_least_to_the_most():
    rows = {name: {"images": count, "manifest": "m" * 64, "pairs": "p"} for name, count in (("a", 1000), ("b", 8000))}
    assert formats.trained(rows, 0.5).startswith("Trained on 1,000 to 8,000 images (50.0% of those wanted)")
    assert formats.trained({"a": rows["a"]}, None).startswith("Trained on 1,000 images, manifest mmmm")


@pytest.mark.parametrize(
    "name",
    ["../../../../outside", "/outside", "a/b", "a.b", "A", "", "tables", "ledger", "figure-costs", "time-jobs", "a\n"],
)
def test_a_table_writes_no_file_but_its_own(name, project, folders, monkeypatch):
    """A name from a file that the schema has not seen leads nowhere, and not to other files of the report."""
    found = read_results(project, *folders)
    known = found.project.tables
    first = next(iter(known))
    monkeypatch.setattr(Project, "tables", property(lambda _: {name: known[first]}))
    before = sorted(path for path in folders[-1].parents[1].rglob("*"))
    with pytest.raises(ValueError, match=re.escape(f"tables: {name!r} cannot be the name of files")):
        tables.write(found, folders[-1].parent / "out")
    assert sorted(path for path in folders[-1].parents[1].rglob("*")) == before


def test_a_report_writes_nothing_that_a_table_could_overwrite(project, written):
    """But what params.yaml refuses as the name of a table."""
    files = {path.stem for path in written.iterdir() if path.suffix in (".csv", ".parquet", ".tex", ".md")}
    assert files - project.tables.keys() <= BESIDE
    assert {"tables", "figure-costs", "ledger"} <= files


def test_a_column_of_costs_is_one_entry(builder, monkeypatch):
    """It stands in Markdown, LaTeX, CSV and on the page, with its number of each row."""
    hours = Column(
        "gpu_hours", lambda this, _: this.run.training[0]["seconds"] / 3600, "GPU-hours", digits=".4f", unit=" h"
    )
    monkeypatch.setattr(costs, "COLUMNS", [*costs.COLUMNS, hours])
    results = builder.results
    table = builder.table("a")
    expected = {row.variant: results.runs[row.variant].training[0]["seconds"] / 3600 for row in table.rows}
    assert {row["variant"]: row["gpu_hours"] for row in table.wide()} == pytest.approx(expected, abs=1e-4)
    assert {row["gpu_hours"] for row in table.records()} == {row["gpu_hours"].value for row in table.rows}
    heads, _, *rows = re.search(r"(?:^\|.*\n)+", tables.markdown(table), re.MULTILINE)[0].splitlines()
    assert heads.endswith("| GPU-hours |")
    assert all(row.endswith(f" {expected[name]:.4f} h |") for name, row in zip(expected, rows, strict=True))
    text = latex.latex(table)
    assert " & GPU-hours " in text
    shown = page.render([page.Part(results, [table], {})], {})
    assert '<th scope="col">GPU-hours</th></tr></thead>' in shown
    for value in expected.values():
        assert f" & {value:.4f} h " in text
        assert f"<span>{value:.4f} h</span>\n</td></tr>" in shown
