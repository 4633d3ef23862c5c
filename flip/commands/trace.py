"""The command `flip trace`."""

from typing import Annotated

import typer

from flip.commands.complete import table_names, table_part
from flip.commands.options import Json, Scale


def trace(
    table: Annotated[str, typer.Argument(help="A table of a report.", autocompletion=table_names)],
    variant: Annotated[str, typer.Argument(help="Its row.", autocompletion=table_part("variants"))],
    metric: Annotated[str, typer.Argument(help="Its column.", autocompletion=table_part("metrics"))],
    parameters: Annotated[bool, typer.Option("--parameters", help="Also print the variant's parameters.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash the files involved and evaluate the weights again.")
    ] = False,
    scale: Scale = None,
    as_json: Json = False,
) -> None:
    """Trace a cell of a table to its origins, and verify it.

        flip trace a flip-50 fine --verify

    It prints weights, metrics, images, data, code and machine, from the receipts of the runs. --json prints everything.
    """
    import json

    from flip.report.trace import TracedCell, text

    cell = TracedCell.find(table, variant, metric, scale)
    print(json.dumps(cell.receipts, indent=1) if as_json else text(cell, parameters))
    if verify:
        if faults := cell.verify():
            raise ValueError("not as recorded:\n  " + "\n  ".join(faults))
        typer.echo("Every file behind it has the recorded hash.", err=as_json)
