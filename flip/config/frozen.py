"""Read and write frozen parameters: those of one variant at one scale, fully resolved, which every stage reads.

How they follow from params.yaml is flip.config.resolve, which no stage depends on: what it resolves shows in their
values.
"""

from pathlib import Path
from typing import Any

import yaml

from flip.config.faults import check
from flip.config.schema import Params
from flip.config.strict_yaml import read_mapping, read_otherwise


def merge(base: Any, delta: Any) -> Any:
    """Return `base` with the keys of `delta` replaced; mappings are merged key by key."""
    if not (isinstance(base, dict) and isinstance(delta, dict)):
        return delta
    return base | {key: merge(base.get(key), value) for key, value in delta.items()}


def load(path: str | Path) -> Params:
    """Load frozen parameters from a file that `dump` wrote."""
    return check(Params, read_mapping(path), str(path))


NUMBERS = "+-._0123456789"  # what numbers begin with


class _Plain(yaml.CSafeDumper):
    """Write each value where it belongs: an anchor would tie what is the same by chance."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: _Plain, text: str) -> yaml.ScalarNode:
    """Represent a text, in quotes where some program could take it for a number, as a hash that begins with 0b."""
    quoted = read_otherwise(text) or text[:1] in NUMBERS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Plain.add_representer(str, _text)


def to_yaml(tree: dict) -> str:
    """Dump YAML by libyaml, ten times as fast as in Python: every call of Snakemake writes all variants."""
    return yaml.dump(tree, Dumper=_Plain, sort_keys=False)


def dump(params: Params) -> str:
    return to_yaml(params.model_dump(mode="json"))
