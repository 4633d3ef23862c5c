"""The command `flip watch`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from flip.commands.options import Json, Scale


def watch(
    command: Annotated[list[str] | None, typer.Argument(help="Command to start, after --.")] = None,
    scale: Scale = None,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between updates.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Show the progress of a run: jobs, share of the work, losses.

        flip watch -- snakemake ablations

    Without a command, show the newest run in this folder; with --json, print its present state and exit. With a
    command, write its full output to a log file and end by naming the report and its headline.
    """
    from flip.config.resolve import read_project
    from flip.provenance.layout import Layout
    from flip.report.watch import launched, newest, newest_log, progress, read_log

    layout = Layout(scale or read_project().scale)
    if command:
        raise typer.Exit(launched(command, layout, pause))
    if as_json:
        print(json.dumps(asdict(progress(read_log(newest_log().read_text(errors="replace")), layout)), indent=1))
        return
    print(newest(layout, pause))
