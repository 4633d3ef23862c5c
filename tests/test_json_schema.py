"""The JSON schema of params.yaml, for editors: it takes what the project has, refuses mistakes, and is the one in the
repository."""

import jsonschema
import pytest
import yaml

from flip.config.json_schema import PLACE, as_text, schema
from flip.config.schema import File
from tests.commands import flip
from tests.miniature import ROOT

SCHEMA = schema()
CHECKED = jsonschema.Draft202012Validator(SCHEMA)


def project():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_it_is_a_schema_and_describes_the_outline():
    CHECKED.check_schema(SCHEMA)
    assert SCHEMA["properties"].keys() == File.model_fields.keys() - {"chosen", "imported"}


def test_it_is_the_one_in_the_repository(capsys):
    assert (ROOT / PLACE).read_text() == as_text(), f"flip params --schema > {PLACE}"
    assert f"$schema={PLACE}" in (ROOT / "params.yaml").read_text().splitlines()[0]
    flip("params", "--schema")
    assert capsys.readouterr().out == as_text()


def test_it_takes_what_the_project_has():
    CHECKED.validate(project())
    for path in (ROOT / "configs" / "reports").glob("*.yaml"):
        report = jsonschema.Draft202012Validator({"$ref": "#/$defs/Report", "$defs": SCHEMA["$defs"]})
        report.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("scales", {"sources": {}}),
        ("scales", {"train": {"batch": "many"}}),
        ("scales", {"like": 3}),
        ("scales", {"to_fit": {"clip": {"batch": 3}}}),
        ("variants", {"masking": {"imgae": 0.5}}),
        ("variants", {"masking": {"image": 1.5}}),
        ("variants", {"form": {"vision": {"pooling": "maximum"}}}),
        ("models", {"vision": {"widht": 64}}),
        ("reports", {"titel": "x"}),
    ],
)
def test_it_refuses_mistakes(section, entry):
    tree = project()
    tree[section]["wrong"] = entry
    assert not CHECKED.is_valid(tree)


def test_it_says_what_a_key_means():
    described = [one for part in SCHEMA["$defs"].values() for one in part.get("properties", {}).values()]
    assert sum("description" in one for one in described) > 100
    assert not any("title" in one and isinstance(one["title"], str) for one in described)
