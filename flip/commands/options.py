"""State the arguments and options that several commands have: each once, with its help and what completes it."""

from pathlib import Path
from typing import Annotated

import typer

from flip.commands.complete import names

Variant = Annotated[str, typer.Argument(help="A variant of params.yaml.", autocompletion=names("variants"))]
Scale = Annotated[
    str | None,
    typer.Option(help="Scale. [default: the one that params.yaml names]", autocompletion=names("scales")),
]
Seed = Annotated[int, typer.Option(help="Seed of the training run.")]
Params = Annotated[Path, typer.Option(help="Parameter file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
