"""The command `flip params`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flip.commands.complete import names
from flip.commands.options import Json, Scale

if TYPE_CHECKING:
    from flip.config.origins import Parameter


def as_text(found: "list[Parameter]") -> str:
    """Return parameters as text: one with all who state it, several with who gives each its value."""
    if len(found) > 1:
        width = max(len(f"{one.key}: {one.value}") for one in found)
        return "\n".join(f"{f'{one.key}: {one.value}':<{min(width, 70)}}  # {one.place}" for one in found)
    (one,) = found
    width = max(len(stated.place) for stated in one.stated)
    lines = [f"  {stated.place:<{width}}  {stated.value}" for stated in one.stated]
    return "\n".join([f"{one.key} = {one.value}", *([one.meaning] if one.meaning else []), *lines])


def listed(variants: dict) -> str:
    """Return a line per variant: its name, and what it has of its own."""
    import yaml

    width = max(map(len, variants))
    flow = {name: yaml.safe_dump(one, default_flow_style=True, width=10**6).strip() for name, one in variants.items()}
    return "\n".join(f"{name:<{width}}  {text}" for name, text in flow.items())


def print_schema() -> None:
    """Print the schema that editors check params.yaml by."""
    from flip.config.json_schema import as_text

    print(as_text(), end="")


def params(
    variant: Annotated[
        str | None, typer.Argument(help="A variant of params.yaml.", autocompletion=names("variants"))
    ] = None,
    key: Annotated[
        str | None, typer.Argument(help="Show where this parameter (train.base_lr) or section (train) comes from.")
    ] = None,
    scale: Scale = None,
    file: Annotated[Path, typer.Option("--params", help="Parameter file.")] = Path("params.yaml"),
    as_json: Json = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of params.yaml.")] = False,
) -> None:
    """Print a variant's parameters, or where one of them comes from.

        flip params flip-50 train.base_lr

    Without a variant, list all variants and their overrides.
    """
    import json
    from dataclasses import asdict

    from flip.config.frozen import dump
    from flip.config.origins import explain, own
    from flip.config.resolve import read_project

    if schema:
        print_schema()
        return
    project = read_project(file, scale)
    if variant is None:
        print(json.dumps(own(file), indent=1) if as_json else listed(own(file)))
    elif key is None:
        resolved = project.resolve(variant)
        print(resolved.model_dump_json(indent=1) if as_json else dump(resolved).rstrip("\n"))
    else:
        found = explain(project, file, variant, key)
        print(json.dumps([asdict(one) for one in found], indent=1) if as_json else as_text(found))
