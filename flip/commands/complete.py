"""Complete names that params.yaml has, for the shell: YAML is read and not checked, as each press of Tab waits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import typer

PARAMS = Path("params.yaml")


def read(path: Path) -> dict:
    """Return a YAML file's mapping; an empty one for what cannot be read."""
    import yaml  # here, as only Tab needs it

    try:
        tree = yaml.load(path.read_bytes(), yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return {}
    return tree if isinstance(tree, dict) else {}


def section(tree: dict, name: str) -> dict:
    """Return a section of params.yaml, or of a report's file; an empty one for what is no mapping."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def tables() -> Iterator[tuple[str, dict]]:
    """Yield the name of each table and what it says: those in params.yaml, and those in the files of its reports."""
    tree = read(PARAMS)
    reports = section(tree, "reports").values()
    for one in (tree, *(read(PARAMS.parent / place) if isinstance(place, str) else place for place in reports)):
        if isinstance(one, dict):
            yield from ((name, table) for name, table in section(one, "tables").items() if isinstance(table, dict))


def names(what: str) -> Callable[[str], list[str]]:
    """Return a function that completes the names in a section of params.yaml."""
    return lambda incomplete: [one for one in section(read(PARAMS), what) if one.startswith(incomplete)]


def table_names(incomplete: str) -> list[str]:
    """Complete the name of a table."""
    return [name for name, _ in tables() if name.startswith(incomplete)]


def table_part(key: str) -> Callable[[typer.Context, str], list[str]]:
    """Return a function that completes what the table on the command line lists: variants, metrics."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        found = dict(tables()).get(context.params.get("table", ""), {}).get(key)
        return [one for one in found if one.startswith(incomplete)] if isinstance(found, list) else []

    return complete
