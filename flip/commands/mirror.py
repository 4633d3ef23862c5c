"""The command `flip mirror`."""

from pathlib import Path
from typing import Annotated

import typer

mirror = typer.Typer(name="mirror", help="Pin public test sets to commits of the hub.", no_args_is_help=True)


@mirror.command()
def newest(name: Annotated[str, typer.Argument(help="A public set, as wds/cars.")]) -> None:
    """Print the newest commit of a public set, to go into evaluate.sets."""
    from flip.testsets.mirror import newest

    print(newest(name))


@mirror.command()
def pin(file: Annotated[Path, typer.Argument(help="File of parameters.")] = Path("params.yaml")) -> None:
    """Write the newest commit of each public set that a file names into it."""
    from flip.testsets.mirror import pin

    print("\n".join(pin(file)))
