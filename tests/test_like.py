"""`like: NAME` takes what NAME says, with the keys beside it over that; a report is read from its file."""

import re

import pytest
import yaml
from ruamel.yaml import YAML

from flip.config.faults import ParameterError
from flip.config.frozen import dump, merge, to_yaml
from flip.config.resolve import Project, read_project
from flip.config.tree import read_tree, written_out
from tests.miniature import ROOT


@pytest.fixture
def reading(tmp_path):
    """(changes) -> params.yaml with them, read again from a file."""

    def read(**changes):
        path = tmp_path / "params.yaml"
        path.write_text(to_yaml(merge(read_tree(ROOT / "params.yaml"), changes)))
        return read_project(path)

    return read


def test_a_chain_is_followed_to_its_end_and_the_nearest_wins():
    entries = {
        "c": {"like": "b", "x": {"one": 3}},
        "a": {"x": {"one": 1, "two": 1}, "list": [1, 2], "y": 5},
        "b": {"like": "a", "x": {"two": 2, "new": {"deep": 1}}, "list": [9]},
    }
    found = written_out(entries, "variants")
    assert found["b"] == {"x": {"one": 1, "two": 2, "new": {"deep": 1}}, "list": [9], "y": 5}
    assert found["c"] == {"x": {"one": 3, "two": 2, "new": {"deep": 1}}, "list": [9], "y": 5}
    assert entries["c"] == {"like": "b", "x": {"one": 3}}


def test_null_is_a_value_and_like_an_empty_entry_is_the_keys_beside_it():
    found = written_out(
        {"plain": None, "a": {"like": "plain", "x": {"y": 1}}, "b": {"like": "a", "x": {"y": None}}}, "variants"
    )
    assert found == {"plain": None, "a": {"x": {"y": 1}}, "b": {"x": {"y": None}}}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": {"like": "a"}}, r"variants.a.like: a -> a is a circle"),
        ({"a": {"like": "b"}, "b": {"like": "c"}, "c": {"like": "b"}}, r"variants.c.like: b -> c -> b is a circle"),
        ({"clip": {}, "a": {"like": "clap"}}, r"variants.a.like: unknown variant 'clap'; did you mean 'clip'\?"),
        ({"clip": {}, "a": {"like": ["clip"]}}, r"variants.a.like: unknown variant '\['clip'\]'; .*known: a, clip"),
        ({"clip": {}, "a": {"like": None}}, r"variants.a.like: unknown variant 'None'"),
    ],
)
def test_what_is_like_nothing_or_itself_is_refused(entries, message):
    with pytest.raises(ParameterError, match=message):
        written_out(entries, "variants")


def test_every_fault_is_told_at_once(reading):
    with pytest.raises(ParameterError) as refused:
        reading(variants={"one": {"like": "flop-50"}, "two": {"like": "two"}})
    assert "variants.one.like: unknown variant 'flop-50'; did you mean 'flip-50'?" in str(refused.value)
    assert "variants.two.like: two -> two is a circle" in str(refused.value)


def test_like_is_the_same_as_writing_out(reading):
    short = {"like": "siglip", "form": {"text": {"bottleneck": 0.125}}, "captions": {"languages": ["en", "de"]}}
    long = {
        "logits": {"temperature": 0.1, "max_scale": None},
        "contrastive": {"weight": 0.0},
        "sigmoid": {"weight": 1.0, "bias": "matched"},
        "captions": {"end": True, "fill": True, "languages": ["en", "de"]},
        "form": {
            "vision": {
                "pooling": "map",
                "positions": "learned",
                "activation": "gelu_tanh",
                "projection": "none",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
            },
            "text": {"pooling": "last", "activation": "gelu_tanh", "projection": "affine", "bottleneck": 0.125},
            "initialization": "siglip",
        },
        "train": {"epochs_scale": 0.25, "warmup_scale": 0.25},
    }
    project = reading(variants={"short": short, "long": long})
    assert dump(project.resolve("short")).replace("short", "long") == dump(project.resolve("long"))


def test_like_carries_start_along(reading):
    """A variant like a tuned one is tuned from the same weights, unless it says otherwise."""
    project = reading(
        variants={
            "longer": {"like": "flip-50-tuned", "train": {"epochs": 2.0}},
            "elsewhere": {"like": "flip-50-tuned", "start": "flip-75"},
            "anew": {"like": "flip-50-tuned", "start": None, "masking": {"image": 0.25}},
        }
    )
    tuned, longer = project.resolve("flip-50-tuned"), project.resolve("longer")
    assert (longer.start, longer.train.epochs) == ("flip-50", 2.0)
    same = longer.model_dump() | {"variant": tuned.variant, "train": tuned.train.model_dump()}
    assert same == tuned.model_dump()
    assert project.resolve("elsewhere").start == "flip-75"
    anew = project.resolve("anew")
    assert (anew.start, anew.masking.image, anew.train.epochs) == (None, 0.25, project.resolve("clip").train.epochs)


def test_a_variant_may_start_from_a_tuned_one(reading):
    """Each stage is the one before with the scale's tuning, and what it says itself."""
    project = reading(variants={"a": {"like": "flip-50-tuned"}, "b": {"start": "a", "train": {"epochs": 2.0}}})
    a, b = project.resolve("a"), project.resolve("b")
    expected = a.model_dump() | {"variant": "b", "start": "a", "train": a.train.model_dump() | {"epochs": 2.0}}
    assert b.model_dump() == expected
    circle = reading(variants={"a": {"start": "b"}, "b": {"start": "a"}})
    with pytest.raises(ParameterError, match="start: b -> a -> b is a circle"):
        circle.resolve("b")


def test_a_scale_and_a_table_may_be_like_another(reading):
    project = reading(
        scales={"mine": {"like": "tiny", "train": {"batch": 32}}},
        tables={"mine": {"like": "b", "report": "systems", "title": "Mine", "variants": ["clip", "clip-half"]}},
    )
    mine, tiny = (Project(project.tree, scale).resolve("clip") for scale in ("mine", "tiny"))
    assert mine.train.batch == 32
    assert mine.model_copy(update={"scale": "tiny", "train": tiny.train}) == tiny
    table = project.tables["mine"]
    assert (table.report, table.metrics) == ("systems", project.tables["b"].metrics)


def test_params_yaml_has_no_anchor_alias_or_merge_and_both_yaml_versions_read_it_alike():
    for path in (ROOT / "params.yaml", *sorted((ROOT / "configs").rglob("*.yaml"))):
        text = path.read_text()
        kinds = {type(event).__name__ for event in yaml.parse(text)}
        assert "AliasEvent" not in kinds, path
        assert not [event for event in yaml.parse(text) if getattr(event, "anchor", None)], path
        assert yaml.safe_load(text) == YAML(typ="safe", pure=True).load(text), path


def test_a_report_is_one_file(tmp_path):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["reports"] = {"mine": "mine.yaml"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(ParameterError, match=r"reports.mine: '.*mine.yaml': no such file; write one"):
        read_project(tmp_path / "params.yaml")
    report = {"title": "Mine", "question": "Which?", "about": "Two of them."}
    table = {"title": "T", "variants": ["clip", "flip-50"], "metrics": ["fine"]}
    figure = {"metric": "fine", "curves": {"all": ["clip"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(report | {"tables": {"t": table}, "tradeoff": figure}))
    project = read_project(tmp_path / "params.yaml").check()
    assert list(project.of("mine").tables) == ["t"]
    assert project.tradeoff.report == project.tables["t"].report == "mine"
    (tmp_path / "params.yaml").write_text(to_yaml(project.tree))
    assert read_project(tmp_path / "params.yaml").tree == project.tree


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": {"t": {"metrics": ["fien"]}}}, "mine.yaml, tables.t.metrics: metric 'fien': of none"),
        ({"tables": {"t": {"variants": ["clip", "flop"]}}}, "mine.yaml, tables.t.variants: unknown variant 'flop'"),
        ({"tables": {"t": {"metric": []}}}, "mine.yaml, tables.t: metric: unknown key"),
        ({"tables": {"t": {"like": "u"}}}, "mine.yaml, tables.t.like: unknown table 'u'"),
        ({"tables": 5}, "mine.yaml, tables: not a mapping of names to tables"),
        ({"tradeoff": {"metric": "fine", "curves": {"x": ["flop"]}}}, "mine.yaml, tradeoff.curves.x: unknown variant"),
        ({"questions": "Q"}, "mine.yaml: questions: unknown key; did you mean 'question'"),
        ({"tables": {}}, "mine.yaml: no table names it"),
    ],
)
def test_a_fault_of_a_report_names_the_file_that_it_stands_in(tmp_path, changes, message):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["reports"] = {one: str(ROOT / file) for one, file in tree["reports"].items()} | {"mine": "mine.yaml"}
    (tmp_path / "params.yaml").write_text(to_yaml(tree))
    table = {"title": "T", "variants": ["clip", "flip-50"], "metrics": ["fine"]}
    report = {"title": "Mine", "question": "Which?", "about": "Two of them.", "tables": {"t": table}}
    changed = report | changes if changes.get("tables") == {} else merge(report, changes)
    (tmp_path / "mine.yaml").write_text(to_yaml(changed))
    if "tradeoff" in changes:
        del tree["reports"]["ablations"]
        (tmp_path / "params.yaml").write_text(to_yaml(tree))
    with pytest.raises(ParameterError, match=f"(^|  ){re.escape(message)}"):
        read_project(tmp_path / "params.yaml").check()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tables": {"a": {"title": "T"}}}, r"reports.more.tables.a: another report has a table of that name"),
        ({"tables": ["a"]}, r"reports.more.tables: not a mapping of names to tables"),
        ({"tables": {"new": 5}}, r"tables.new: Input should be"),
        ({"tradeoff": {"metric": "fine", "curves": {}}}, r"reports.more.tradeoff: another report has this figure"),
    ],
)
def test_reports_do_not_overwrite_each_other(reading, more, message):
    with pytest.raises(ParameterError, match=message):
        reading(reports={"more": {"title": "T", "question": "Q", "about": "A"} | more})
