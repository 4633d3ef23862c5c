"""What a recipe has otherwise than its paper is said of the rows whose parameters have it, and of no others, on every
surface of a table; and every key that is named exists."""

import copy
import re

import pytest
import yaml

from flip.config.frozen import merge
from flip.config.resolve import Project
from flip.metrics.names import CLASSIFYING
from flip.report.deviations import FACTS, agrees, deviations, entries, read
from flip.report.latex import latex
from flip.report.results import read_results
from flip.report.tables import Builder, markdown
from tests.results_world import write_world

FLAVA = ["flava-c", "flava-mm", "flava", "flava-init"]


@pytest.fixture(scope="module")
def rows(project):
    """rows(word, variants, delta): of which of these variants, changed by a delta, a note with a word is."""

    def found(word, variants, delta=None, tasks=("",)):
        tree = copy.deepcopy(project.tree)
        for name in variants if delta else ():
            tree["variants"][name] = merge(tree["variants"][name] or {}, delta)
        every = deviations(Project(tree, project.scale), variants, tasks)
        return [name for name in variants if any(word in one.text and name in one.rows for one in every)]

    return found


def test_every_key_exists(project):
    for name, entry in entries().items():
        assert entry.note or entry.paper, name
        assert {*entry.tasks} <= {*CLASSIFYING}, name
        for key, value in (entry.where | entry.paper).items():
            for variant in project.variants:
                assert agrees(read(project, variant, key), value) in (True, False)
    with pytest.raises(AttributeError, match="lerning_rate"):
        read(project, "clip", "train.lerning_rate")


def test_an_entry_is_read_whole():
    """No field is misspelt, and none is there twice."""
    known = {"where", "paper", "tasks", "note", "source"}
    assert all(facts.keys() <= known for facts in yaml.safe_load(FACTS.read_text()).values())
    names = re.findall(r"^([\w-]+):", FACTS.read_text(), re.MULTILINE)
    assert names == [*entries()]


@pytest.mark.parametrize(
    ("variant", "scheme"), [("clip-form", "clip"), ("siglip", "siglip"), ("msiglip", "siglip"), ("flava-c", "flava")]
)
def test_initial_weights_are_named_where_they_are_not_the_papers(rows, variant, scheme):
    shown = [variant, "clip", "sigmoid", "flip-50"]
    assert rows("form.initialization", shown) == []
    assert rows(f"form.initialization is xavier, not {scheme}", shown, {"form": {"initialization": "xavier"}}) == [
        variant
    ]


def test_flavas_words_and_matching(rows):
    assert rows("masked one by one", [*FLAVA, "clip"]) == FLAVA[1:]
    assert rows("neighbour", [*FLAVA, "clip"]) == FLAVA[1:]
    assert rows("neighbour", ["flava-mm"], {"flava": {"itm": 0.0}}) == []
    assert rows("random_words", [*FLAVA, "clip"]) == []
    everything = {"flava": {"random_words": 0.0, "kept_words": 0.0}}
    assert rows("flava.random_words is 0, not 0.1, flava.kept_words is 0", [*FLAVA, "clip"], everything) == FLAVA[1:]


def test_tuning_has_the_ratio_of_its_rates(project, rows):
    pair = ["flip-50", "flip-50-tuned"]
    assert rows("tuning_rate is 0.1, not 0.01", pair) == ["flip-50-tuned"]
    assert rows("tuning_rate", pair, {"train": {"base_lr": 0.00004}}) == ["flip-50-tuned"], "both are changed"
    assert read(project, "flip-50", "tuning_rate") is None
    paper = Project(project.tree, "laion400m")
    assert not any("tuning_rate" in one.text for one in deviations(paper, pair, [""]))


def test_what_a_scale_has_as_the_paper_is_not_named(project):
    scales = {name: deviations(Project(project.tree, name), ["clip"], [""]) for name in ("tiny", "laion400m")}
    assert not any("download" in one.text for found in scales.values() for one in found)
    small = copy.deepcopy(project.tree)
    small["scales"]["laion400m"]["download"]["min_image_size"] = 32
    texts = [one.text for one in deviations(Project(small, "laion400m"), ["clip"], [""])]
    assert any(text.startswith("download.min_image_size is 32, not 0 [") for text in texts)


def test_probes_are_named_in_tables_that_have_one(rows):
    assert rows("L-BFGS", ["clip"]) == []
    assert rows("L-BFGS", ["clip"], tasks=("", "probe")) == ["clip"]
    assert rows("mixup", ["clip"], tasks=("probe",)) == []
    assert rows("mixup", ["clip"], tasks=("finetuned",)) == ["clip"]


def test_they_stand_on_every_surface(project, tmp_path):
    part = project.of("hybrids")
    builder = Builder(read_results(part, *write_world(tmp_path, part)))
    table = builder.table("flava")
    found = builder.deviations("flava")
    assert {one.mark is None for one in found} == {True, False}
    text, tex = markdown(table), latex(table)
    for one in found:
        assert f"- {one.note}\n" in text
        for record in [*table.records(), *table.wide()]:
            assert (one.text in record["deviations"]) == (record["variant"] in one.rows)
    marks = " ".join(one.mark for one in found if one.mark and "flava-init" in one.rows)
    assert marks
    assert f"**flava-init** <sup>{marks}</sup>" in text
    assert f"flava-init\\textsuperscript{{{marks}}}" in tex
