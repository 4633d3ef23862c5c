"""The command `flip interpolate`."""

from pathlib import Path
from typing import Annotated

import typer

from flip.commands.options import Json, Scale, Seed, Variant


def interpolate(
    variant: Variant,
    shares: Annotated[
        str | None, typer.Option(help="Shares of the tuned weights, from 0 to 1. [default: 0,0.25,0.5,0.75,1]")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="Write the interpolated weights of this share; needs --to.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder for --keep; it must not exist.")] = None,
    scale: Scale = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. [default: curves/<scale>/<variant>/seed-<seed>]")] = None,
    as_json: Json = False,
) -> None:
    """Evaluate averages of a tuned variant and its start (WiSE-FT).

        flip interpolate vit-b-32-tuned --keep 0.5 --to mixed/vit-b-32

    Weighted averages of the original and the tuned weights are evaluated on every test set. Points of earlier calls are
    kept. `flip.load` and `flip export --params ...` accept the folder written by --keep.
    """
    from flip.report.interpolation import SHARES, run

    if (keep is None) != (to is None):
        raise ValueError("--keep SHARE says what to write and --to FOLDER where: give both, or none")
    found = run(variant, scale, seed, numbers(shares) if shares else SHARES, out)
    if keep is not None and to is not None:
        found.keep(keep, to)
    print(found.as_json() if as_json else found.as_text())


def numbers(text: str) -> list[float]:
    """Parse numbers with commas between them.

    Raises:
        ValueError: something else.
    """
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--shares {text}: no numbers with commas between them; such as 0,0.5,1") from None
