"""`flip`: every option is explained; help and completion load nothing heavy; a parameter's value is traced to the place
in params.yaml that gives it."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
import yaml

from flip.commands import app
from flip.config.frozen import to_yaml
from flip.config.origins import Layers, explain, leaves
from flip.config.resolve import read_project
from flip.config.schema import Masking
from flip.config.strict_yaml import read_mapping
from flip.config.tree import read_tree
from tests.commands import flip
from tests.miniature import ROOT


def commands(one=None, name="flip"):
    """Every command by its words; of a group, those in it."""
    one = one or typer.main.get_command(app)
    yield name, one
    for part, inner in getattr(one, "commands", {}).items():
        yield from commands(inner, f"{name} {part}")


@pytest.mark.parametrize(("name", "one"), [*commands()], ids=lambda one: one if isinstance(one, str) else "")
def test_every_command_and_option_is_explained(name, one):
    assert one.help, name
    for param in one.params:
        assert param.help, f"{name}: {param.name}"
    assert len(one.get_short_help_str(200)) <= 62, f"{name}: its first sentence is cut off in the list"


def call(*words, **environment):
    """What a process of `flip` prints."""
    command = [sys.executable, "-m", "flip", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ | environment
    ).stdout


def complete(line):
    """What the shell offers after a line."""
    words = line.split()
    found = call(_FLIP_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - (not line.endswith(" "))))
    return found.split()


def test_names_are_completed_from_params_yaml():
    tree = read_tree(ROOT / "params.yaml")
    assert complete("flip show flip-50-s") == [name for name in tree["variants"] if name.startswith("flip-50-s")]
    assert complete("flip plan --scale ") == [*tree["scales"]]
    assert complete("flip plan --report ab") == ["ablations"]
    assert {"a", "b"} <= {*complete("flip trace ")}
    assert complete("flip trace a ") == tree["tables"]["a"]["variants"]
    assert complete("flip trace a clip ") == tree["tables"]["a"]["metrics"]


@pytest.mark.parametrize("content", [None, "", "- a", "variants: [", "variants: 3\nreports: {a: nowhere.yaml, b: 1}"])
def test_what_cannot_be_read_completes_nothing(tmp_path, monkeypatch, content):
    from flip.commands import complete

    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "params.yaml").write_text(content)
    assert complete.names("variants")("") == complete.table_names("") == []


def test_the_version_is_the_packages(capsys):
    flip("--version")
    assert capsys.readouterr().out == f"flip {version('flip')}\n"


def test_a_call_from_elsewhere_is_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flip("params", "clip", code=1)
    assert capsys.readouterr().err == "params.yaml: not in this folder; change to the project's folder, where it is\n"


# Where values come from.


@pytest.mark.parametrize("scale", ["tiny", "gpu", "cc12m", "laion400m"])
def test_the_last_place_that_states_a_parameter_gives_its_value(scale):
    """Of every parameter of every variant: the places found by themselves give what merging gives."""
    project, tree = read_project("params.yaml", scale), read_mapping("params.yaml")
    for variant in tree["variants"]:
        layers = Layers(project, Path("params.yaml"), tree, variant)
        for keys, value in leaves(layers.params.model_dump(mode="json", exclude={"scale", "variant"})):
            found = layers.parameter(keys, value)
            assert found.stated[-1].value == value, (variant, keys)
            swept = found.key in project.choices.get(variant, {}).get("values", {})
            timed = variant in project.times and keys[0] == "train"
            assert found.place.startswith("params.yaml") or swept or timed or found.place.startswith("default")


def test_a_value_is_followed_through_likes_and_models(tmp_path, capsys):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["scales"]["mine"] = {"like": "cc12m", "train": {"base_lr": 0.003}}
    tree["variants"] |= {
        "one": {"like": "flip-50", "model": "larger"},
        "two": {"like": "one", "train": {"batch_scale": 5}},
    }
    path = tmp_path / "params.yaml"
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    path.write_text(to_yaml(tree))
    project = read_project(path, "mine")
    (found,) = explain(project, path, "two", "train.base_lr")
    assert [one.place.removeprefix("params.yaml, ") for one in found.stated][-2:] == ["scales.cc12m", "scales.mine"]
    (batch,) = explain(project, path, "two", "train.batch_scale")
    assert [(one.place, one.value) for one in batch.stated[-2:]] == [
        ("params.yaml, variants.flip-50", 2),
        ("params.yaml, variants.two", 5),
    ]
    larger = tree["scales"]["cc12m"].get("larger", tree["base"]["larger"])
    (width,) = explain(project, path, "two", "model.vision.width")
    assert (width.place, width.value) == (
        f"params.yaml, variants.one, models.{larger}",
        tree["models"][larger]["vision"]["width"],
    )
    flip("params", "two", "train.batch_scale", "--params", path, "--scale", "mine", "--json")
    assert json.loads(capsys.readouterr().out)[0]["value"] == 5


def test_parameters_are_printed_and_explained(capsys):
    flip("params", "flip-50")
    assert yaml.safe_load(capsys.readouterr().out)["masking"]["image"] == 0.5
    flip("params", "flip-50", "masking.image")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "masking.image = 0.5"
    assert said[1].startswith("share")
    assert said[-1].split() == ["params.yaml,", "variants.flip-50", "0.5"]
    flip("params", "flip-50", "masking")
    assert len(capsys.readouterr().out.splitlines()) == len(Masking.model_fields)
    flip("params", "flip-50", "masking.imgae", code=1)
    assert "unknown parameter 'masking.imgae'; did you mean 'masking.image'?" in capsys.readouterr().err
    flip("params")
    said = " ".join(capsys.readouterr().out.split())
    assert "flip-50-small-batch {like: flip-50, train: {batch_scale: 1}} flip-50-large-batch" in said


@pytest.mark.parametrize(("name", "one"), [*commands()], ids=lambda one: one if isinstance(one, str) else "")
def test_every_command_that_says_something_says_it_as_json_too(name, one):
    """But for a page (show), which is for eyes."""
    options = {option for param in one.params for option in param.opts}
    assert "--json" in options or name.strip() == "flip show" or hasattr(one, "commands"), name


def test_what_doctor_finds_is_json_and_an_exit_status(tmp_path, capsys):
    flip("doctor", "--json")
    assert json.loads(capsys.readouterr().out) | {"reports": []} == {
        "scale": "tiny", "faults": [], "unknown": [], "reports": [], "left_out": {}
    }  # fmt: skip
    flip("doctor", "--scale", "cc12m", "--json", code=1)
    assert json.loads(capsys.readouterr().out)["faults"]
