"""Read and write frozen parameters: those of one variant at one scale, fully resolved, which every stage reads.

How they follow from params.yaml is flip.config.resolve, which no stage depends on: what it resolves shows in their
values.
"""

from pathlib import Path
from typing import Any

import yaml

from flip.config.faults import check
from flip.config.schema import Params
from flip.config.strict_yaml import read_mapping


def merge(base: Any, delta: Any) -> Any:
    """Return `base` with the keys of `delta` replaced; mappings are merged key by key."""
    if not (isinstance(base, dict) and isinstance(delta, dict)):
        return delta
    return base | {key: merge(base.get(key), value) for key, value in delta.items()}


def load(path: str | Path) -> Params:
    """Load frozen parameters from a file that `dump` wrote."""
    return check(Params, read_mapping(path), str(path))


class _Plain(yaml.CSafeDumper):
    """Write each value where it belongs: an anchor would tie what is the same by chance."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def to_yaml(tree: dict) -> str:
    """Dump YAML by libyaml, ten times as fast as in Python: every call of Snakemake writes all variants."""
    return yaml.dump(tree, Dumper=_Plain, sort_keys=False)


def dump(params: Params) -> str:
    return to_yaml(params.model_dump(mode="json"))
