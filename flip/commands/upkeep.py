"""The commands `flip reconcile` and `flip tidy`."""

import json
from typing import Annotated

import typer

from flip.commands.options import Json, Scale


def reconcile(as_json: Json = False) -> None:
    """Check after a clone and `dvc pull` that files are as recorded.

    A file that has another content is named, and nothing is touched. Otherwise `snakemake -n` compares contents, and
    no job runs again for a new file time.
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Name what would be deleted, and delete nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete results, too, that DVC has not recorded.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what is left of variants that params.yaml has no more.

    That is results, receipts, checkpoints and choices, those of reports, too. What was committed stays in Git, and what
    was pushed in DVC's remote.
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
