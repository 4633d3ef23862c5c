"""The command `flip curve`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flip.commands.options import Json, Scale, Seed, Variant


def curve(
    variant: Variant,
    follow: Annotated[bool, typer.Option("--follow", help="Keep updating until the training has ended.")] = False,
    scale: Scale = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. [default: curves/<scale>/<variant>/seed-<seed>]")] = None,
    as_json: Json = False,
) -> None:
    """Draw accuracy against samples seen, while a variant trains.

    Checkpoints, and finally the weights, are evaluated on one thread with the lowest priority. Points of earlier calls
    are kept, as a training keeps only its newest checkpoints.
    """
    import torch

    from flip.report.curve import run

    os.nice(19)  # training goes first
    torch.set_num_threads(1)
    found = run(variant, scale, seed, out, follow)
    print(found.as_json() if as_json else found.as_text())
