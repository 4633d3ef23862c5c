"""The command `flip mirror`."""

from pathlib import Path
from typing import Annotated

import typer

mirror = typer.Typer(name="mirror", help="Pin public test sets to commits of the hub.", no_args_is_help=True)


@mirror.command()
def newest(name: Annotated[str, typer.Argument(help="A public set, as wds/cars.")]) -> None:
    """Print the newest commit of a public set.

    It goes into evaluate.sets, as {cars: wds/cars@COMMIT}.
    """
    from flip.testsets.mirror import newest

    print(newest(name))


@mirror.command()
def pin(file: Annotated[Path, typer.Argument(help="File of parameters.")] = Path("params.yaml")) -> None:
    """Pin each public set that a file names to its newest commit."""
    from flip.testsets.mirror import pin

    print("\n".join(pin(file)))
