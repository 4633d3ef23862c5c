"""The command `flip plan`."""

from pathlib import Path
from typing import Annotated

import typer

from flip.commands.complete import names
from flip.commands.options import Csv, Json, Params, Scale


def share(value: str) -> float:
    """Read a number above 0 and at most 1."""
    if not 0 < (number := float(value)) <= 1:
        raise typer.BadParameter(f"{value}: above 0 and at most 1 is possible")
    return number


def positive(value: str) -> float:
    """Read a number above 0."""
    if not (number := float(value)) > 0:
        raise typer.BadParameter(f"{value}: only more than 0 is possible")
    return number


def plan(
    scale: Scale = None,
    report: Annotated[
        str, typer.Option(help="Whose variants are trained.", autocompletion=names("reports"))
    ] = "ablations",
    gpu: Annotated[str, typer.Option(help="Kind of GPU, as in flip/plan/facts.yaml.")] = "h100",
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes of the cluster. [default: those of one training job]")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs per node.")] = 8,
    gpus_per_job: Annotated[
        int | None, typer.Option(min=1, help="GPUs that train a variant. [default: resources.pretrain of the scale]")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time. [default: `jobs` of slurm/config.yaml]")
    ] = None,
    utilization: Annotated[
        float | None,
        typer.Option(parser=share, help="Share of the GPU's rate that is reached. [default: flip/plan/facts.yaml]"),
    ] = None,
    samples_per_second: Annotated[
        float | None,
        typer.Option(parser=positive, help="Of the baseline on one GPU; other variants follow by their FLOPs."),
    ] = None,
    caption_tokens: Annotated[
        float | None,
        typer.Option(parser=positive, help="Mean tokens per caption. [default: all slots are full, an upper bound]"),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of the source. [default: ledger, params.yaml, its files, flip/plan/facts.yaml]"),
    ] = None,
    arrival: Annotated[
        float, typer.Option(parser=share, help="Share of rows that becomes pairs (LAION-400M: 0.68 in 2024).")
    ] = 1.0,
    original_bytes: Annotated[
        float | None, typer.Option(parser=positive, help="Per image on the wire. [default: flip/plan/facts.yaml]")
    ] = None,
    stored_bytes: Annotated[
        float | None, typer.Option(parser=positive, help="Per image in a shard. [default: by download.image_size]")
    ] = None,
    gigabits: Annotated[float, typer.Option(parser=positive, help="Bandwidth, Gbit/s.")] = 2.0,
    params: Params = Path("params.yaml"),
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Estimate what a scale costs: FLOPs, GPU-hours, memory, days.

        flip plan --scale laion400m --gpu h100 --nodes 2 --gpus 8

    Nothing is trained. What is neither measured nor stated is assumed, and the output says by whom.
    """
    import json

    from flip.config.resolve import read_project
    from flip.plan import show
    from flip.plan.estimate import Assumptions
    from flip.plan.plan import cluster_gpus
    from flip.plan.plan import plan as planned
    from flip.plan.schedule import job_limit

    project = read_project(params, scale).check()
    given = Assumptions(
        gpu=gpu,
        gpus=cluster_gpus(project, nodes, gpus, gpus_per_job),
        jobs=jobs or job_limit(),
        gpus_per_job=gpus_per_job,
        utilization=utilization,
        samples_per_second=samples_per_second,
        caption_tokens=caption_tokens,
        rows=rows,
        arrival=arrival,
        original_bytes=original_bytes,
        stored_bytes=stored_bytes,
        gigabits=gigabits,
    )
    estimate, left_out = planned(project, report, given)
    if as_json or as_csv:
        print(json.dumps(estimate.as_dict(), indent=1) if as_json else show.as_csv(estimate).rstrip("\n"))
    else:
        print(show.text(estimate))
    if left_out:
        typer.echo("\n".join(["\nLeft out:", *left_out]), err=as_json or as_csv)
