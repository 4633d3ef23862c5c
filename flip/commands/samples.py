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
    out: Annotated[Path | None, typer.Option(help="Output file for the missing rows (parquet).")] = None,
    as_json: Json = False,
) -> None:
    """List the pairs of one list that are not in another.

    flip samples missing --wanted 'theirs/shards/*/samples.parquet' --have 'data/tiny/shards/*/samples.parquet'

    Use --out as source.table to download the missing pairs.
    """
    from flip.data.pairs import SCHEMA, files
    from flip.data.samples import PAIR, missing

    print(as_text(missing(files("--wanted", wanted, SCHEMA.names), files("--have", have, PAIR), out), as_json))


@samples.command()
def intersect(
    of: Annotated[str, typer.Option(help="Parquet file or glob: key, url, caption, sha256.")],
    other: Annotated[str, typer.Option("--with", help="Parquet file or glob: caption, sha256.")],
    out: Annotated[Path, typer.Option(help="Output file for the rows of --of that are in both (parquet).")],
    as_json: Json = False,
) -> None:
    """Write the pairs that are in both lists.

    Use --out as shards.only to restrict a run to these pairs.
    """
    from flip.data.pairs import SCHEMA, files
    from flip.data.samples import PAIR, intersect

    print(as_text(intersect(files("--of", of, SCHEMA.names), files("--with", other, PAIR), out), as_json))
