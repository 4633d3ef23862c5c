"""The command `flip samples`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flip.commands.options import Json

samples = typer.Typer(
    name="samples",
    help="Compare lists of samples, by SHA-256 and caption.",
    no_args_is_help=True,
)


def as_text(counts: dict[str, int], as_json: bool) -> str:
    """Return counts as text, a line each, or as JSON."""
    return json.dumps(counts) if as_json else "\n".join(f"{count:>14,}  {name}" for name, count in counts.items())


@samples.command()
def missing(
    wanted: Annotated[str, typer.Option(help="Parquet file or glob: key, url, caption, sha256.")],
    have: Annotated[str, typer.Option(help="Parquet file or glob: caption, sha256.")],
    out: Annotated[Path | None, typer.Option(help="Where the rows that are missing go (parquet).")] = None,
    as_json: Json = False,
) -> None:
    """Say which pairs of a list are not in another.

    flip samples missing --wanted 'theirs/shards/*/samples.parquet' --have 'data/tiny/shards/*/samples.parquet'

    What --out holds can be downloaded (source.table).
    """
    from flip.data.pairs import SCHEMA, files
    from flip.data.samples import PAIR, missing

    print(as_text(missing(files("--wanted", wanted, SCHEMA.names), files("--have", have, PAIR), out), as_json))


@samples.command()
def intersect(
    of: Annotated[str, typer.Option(help="Parquet file or glob: key, url, caption, sha256.")],
    other: Annotated[str, typer.Option("--with", help="Parquet file or glob: caption, sha256.")],
    out: Annotated[Path, typer.Option(help="Where the rows of --of that are in both go (parquet).")],
    as_json: Json = False,
) -> None:
    """Write the pairs that are in both of two lists.

    A run can be restricted to them (shards.only).
    """
    from flip.data.pairs import SCHEMA, files
    from flip.data.samples import PAIR, intersect

    print(as_text(intersect(files("--of", of, SCHEMA.names), files("--with", other, PAIR), out), as_json))
