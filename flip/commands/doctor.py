"""The command `flip doctor`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from flip.commands.options import Json, Params, Scale


def doctor(
    scale: Scale = None,
    params: Params = Path("params.yaml"),
    profile: Annotated[Literal["slurm"] | None, typer.Option(help="Also check the cluster of this profile.")] = None,
    as_json: Json = False,
) -> None:
    """Check a scale's sources, test sets and cluster before any job.

    It checks the files of the source (only headers and first lines), the test sets and the disk space. Each tar in a
    bucket is compared with its recorded size and ETag. With --profile, it asks the cluster whether it would accept the
    jobs, and runs a tiny job in each partition. The exit status is 1 if anything is wrong.
    """
    from flip.config.resolve import read_project
    from flip.plan.cluster import profile_faults
    from flip.plan.doctor import faults, message, space_faults
    from flip.provenance.layout import Layout
    from flip.sources import elsewhere

    project = read_project(params, scale).check()
    at = Layout(project.scale)
    tars = elsewhere.listed(at.table_folder)
    found = [*faults(project), *space_faults(project), *elsewhere.changed(tars)]
    refused, unknown = profile_faults(project.baseline.resources) if profile else ([], [])
    found += refused
    if as_json:
        facts = {"scale": project.scale, "faults": found, "unknown": unknown, "reports": [*project.reports]}
        print(json.dumps(facts | {"left_out": project.left_out}, indent=1))
        raise typer.Exit(bool(found))
    if found:
        raise ValueError(message(project.scale, found))
    print(f"Scale '{project.scale}': its source and its test sets can be read; reports: {', '.join(project.reports)}")
    if tars and (more := elsewhere.unlisted(project.baseline.source, tars)):
        asks = f"`snakemake data --config scale={project.scale} look=sources` takes them in"
        print(f"Not listed: {len(more)} tars that came later, as {more[0]}; {asks}")
    for reason in unknown:
        print(f"Whether nodes see this folder is not known: {reason}")
    for name, reason in project.left_out.items():
        print(f"Left out: report '{name}', as of {reason}")
