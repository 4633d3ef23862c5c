"""The command `flip mirror`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flip.commands.options import Json

mirror = typer.Typer(name="mirror", help="Pin public test sets to commits of the hub.", no_args_is_help=True)


@mirror.command()
def newest(name: Annotated[str, typer.Argument(help="A public set, as wds/cars.")], as_json: Json = False) -> None:
    """Print the newest commit of a public set.

    Write it into evaluate.sets, as {cars: wds/cars@COMMIT}.
    """
    from flip.testsets.mirror import newest

    found = newest(name)
    print(json.dumps({"set": found}) if as_json else found)


@mirror.command()
def pin(
    file: Annotated[Path, typer.Argument(help="Parameter file.")] = Path("params.yaml"), as_json: Json = False
) -> None:
    """Pin each public set in a parameter file to its newest commit."""
    from flip.testsets.mirror import pin

    found = pin(file)
    print(json.dumps(found, indent=1) if as_json else "\n".join(found))
