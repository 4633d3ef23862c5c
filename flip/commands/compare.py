"""The command `flip compare`."""

from typing import Annotated

import typer

from flip.commands.options import Csv, Json, Scale


def compare(
    states: Annotated[
        list[str] | None,
        typer.Argument(help="Git revisions, names of DVC experiments, or . for the working tree. [default: .]"),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Metrics to show. [default: as many as fit]")
    ] = None,
    scale: Scale = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare metrics and costs of variants, also across commits.

        flip compare main . my-experiment

    Everything is read from receipts, which are in Git, so nothing has to be pulled. --csv and --json have all columns.
    """
    from flip.config.resolve import read_project
    from flip.report import compare as compared
    from flip.report.evaluated import HERE

    project = read_project(scale=scale)
    frame = compared.compare(states or [HERE], project.scale)
    if as_json:
        print(frame.to_json(orient="records", indent=1))
    elif as_csv:
        print(frame.to_csv(index=False), end="")
    elif metrics is not None:
        print(compared.chosen(frame, metrics))
    else:
        print(compared.fitting(frame, compared.leading(project, frame)))
