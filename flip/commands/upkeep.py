"""The commands `flip reconcile` and `flip tidy`."""

import json
from typing import Annotated

import typer

from flip.commands.options import Json, Scale


def reconcile(as_json: Json = False) -> None:
    """Check that files are as recorded, after clone and `dvc pull`.

    Files with different content are listed, and nothing is changed. If there are none, `snakemake -n` compares
    contents, so that no job runs again only because of new file times.
    """
    from flip.provenance.reconcile import reconcile

    here, recorded, absent = reconcile()
    if as_json:
        print(json.dumps({"here": here, "recorded": recorded, "missing": absent}, indent=1))
        return
    if absent:
        print(f"Not here: {', '.join(absent)}. `dvc pull PATH` brings one when it is needed.")
    print(f"{here} of {recorded} recorded files are here{', as they were recorded' if here else ''}.")


def tidy(
    scale: Scale = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be deleted, without deleting it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Also delete results that DVC has not recorded.")] = False,
    as_json: Json = False,
) -> None:
    """Delete the results of variants that params.yaml no longer has.

    It deletes their results, receipts, checkpoints and sweep choices, and those of deleted reports. What was committed
    remains in Git, and what was pushed remains in the DVC remote.
    """
    from flip.config.resolve import read_project
    from flip.provenance.tidy import tidy

    paths = tidy(read_project(scale=scale), dry_run, force)
    if as_json:
        print(json.dumps([str(path) for path in paths], indent=1))
        return
    for path in paths:
        print(f"{'would delete' if dry_run else 'deleted'} {path}")
    if not paths:
        print("Nothing is left of variants or reports that params.yaml does not have.")
