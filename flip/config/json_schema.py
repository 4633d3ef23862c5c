"""Describe params.yaml as a JSON schema, for editors: they complete keys, show what each means and underline mistakes.

What depends on several keys, or on names that stand elsewhere in the file, `flip.config.resolve` checks.
"""

import json
from typing import Any

from pydantic import TypeAdapter

from flip.config.resolution import Resolution
from flip.config.scale import LESS_MEMORY
from flip.config.schema import Params
from flip.config.sections.report import Report, Table, Tradeoff

PLACE = "configs/params.schema.json"  # in the repository, which params.yaml names
OWN = ("scale", "variant")  # of frozen parameters, which params.yaml does not state
LIKE = {"like": {"type": "string", "description": "takes all that the entry of this name says"}}
NAMED = {
    "larger": {"type": "string", "description": "what `model: larger` of a variant names"},
    "tuning": {"$ref": "#/$defs/Delta", "description": "what changes for a variant that starts from another"},
}


def partial(schema: Any) -> Any:
    """Return a schema without titles, in which no key has to be there, as it may be stated elsewhere, and an entry of a
    mapping may be null, as one that is stated elsewhere is taken out by that."""
    if isinstance(schema, list):
        return [partial(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"required"} | ({"title"} if isinstance(schema.get("title"), str) else set())
    found = {key: partial(value) for key, value in schema.items() if key not in left_out}
    if named := found.get("patternProperties"):
        found["patternProperties"] = {name: {"anyOf": [one, {"type": "null"}]} for name, one in named.items()}
    return found


def entries(one: dict) -> dict:
    """Return the schema of a section whose keys are names."""
    return {"type": "object", "additionalProperties": one}


def with_keys(schema: dict, more: dict) -> dict:
    """Return the schema of an object that may have more keys."""
    return schema | {"properties": schema["properties"] | more}


def schema() -> dict:
    """Return the schema: base, scales and variants state parts of what `Params` holds."""
    known = (Params, Report, Table, Tradeoff)
    inputs = [(one.__name__, "validation", TypeAdapter(one)) for one in known]
    _, found = TypeAdapter.json_schemas(inputs, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    parts = {name.rpartition("/")[2]: partial(one) for name, one in found["$defs"].items()}
    delta = parts.pop("Params")
    delta["properties"] = {key: one for key, one in delta["properties"].items() if key not in OWN}
    less = {key: parts["Train"]["properties"][key] for key in LESS_MEMORY}
    fit = entries({"type": "object", "additionalProperties": False, "properties": less})
    size = {"anyOf": [{"type": "string", "description": "a name in models"}, {"$ref": "#/$defs/Model"}]}
    resolution = partial(Resolution.model_json_schema()["properties"])
    parts["Delta"] = with_keys(delta, LIKE | NAMED | resolution | {"model": size, "to_fit": fit})
    parts["Table"] = with_keys(parts["Table"], LIKE)
    whole = {"tables": entries({"$ref": "#/$defs/Table"}), "tradeoff": {"$ref": "#/$defs/Tradeoff"}}
    parts["Report"] = with_keys(parts["Report"], whole)
    change = {"anyOf": [{"$ref": "#/$defs/Delta"}, {"type": "null"}]}
    sections = {
        "scale": {"type": "string", "description": "the scale, where no command names another"},
        "base": {"$ref": "#/$defs/Delta"},
        "models": entries({"$ref": "#/$defs/Model"}),
        "scales": entries(change),
        "variants": entries(change),
        "reports": entries({"anyOf": [{"type": "string", "description": "its file"}, {"$ref": "#/$defs/Report"}]}),
        **whole,
    }
    top = {
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
        "$defs": dict(sorted(parts.items())),
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "params.yaml", **top}


def as_text() -> str:
    """Return the schema as the file in the repository has it."""
    return json.dumps(schema(), indent=1) + "\n"
