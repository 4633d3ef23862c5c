"""The command `flip params`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flip.commands.complete import names
from flip.commands.options import Json, Scale

if TYPE_CHECKING:
    from flip.config.origins import Parameter


def told(found: "list[Parameter]") -> str:
    """Return parameters as text: one with all who state it, several with who gives each its value."""
    if len(found) > 1:
        width = max(len(f"{one.key}: {one.value}") for one in found)
        return "\n".join(f"{f'{one.key}: {one.value}':<{min(width, 70)}}  # {one.place}" for one in found)
    (one,) = found
    width = max(len(stated.place) for stated in one.stated)
    lines = [f"  {stated.place:<{width}}  {stated.value}" for stated in one.stated]
    return "\n".join([f"{one.key} = {one.value}", *([one.meaning] if one.meaning else []), *lines])


def print_schema() -> None:
    """Print the schema that editors check params.yaml by."""
    from flip.config.json_schema import as_text

    print(as_text(), end="")


def params(
    variant: Annotated[
        str | None, typer.Argument(help="A variant of params.yaml.", autocompletion=names("variants"))
    ] = None,
    key: Annotated[
        str | None, typer.Argument(help="A parameter, as train.base_lr, or a section, as train: where it comes from.")
    ] = None,
    scale: Scale = None,
    file: Annotated[Path, typer.Option("--params", help="File with all parameters.")] = Path("params.yaml"),
    as_json: Json = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of params.yaml.")] = False,
) -> None:
    """Print a variant's parameters, or where one of them comes from.

    flip params flip-50

    flip params flip-50 train.base_lr
    """
    if schema:
        print_schema()
        return
    if variant is None:
        raise typer.BadParameter("name one, or --schema", param_hint="VARIANT")
    import json
    from dataclasses import asdict

    from flip.config.frozen import dump
    from flip.config.origins import explain
    from flip.config.resolve import read_project

    project = read_project(file, scale)
    if key is not None:
        found = explain(project, file, variant, key)
        print(json.dumps([asdict(one) for one in found], indent=1) if as_json else told(found))
        return
    resolved = project.resolve(variant)
    print(resolved.model_dump_json(indent=1) if as_json else dump(resolved).rstrip("\n"))
