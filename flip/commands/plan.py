"""The command `flip plan`."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flip.commands.complete import names
from flip.commands.options import Csv, Json, Params, Scale

if TYPE_CHECKING:
    from flip.config.resolve import Project
    from flip.plan.estimate import ScalePlan


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


Report = Annotated[str, typer.Option(help="Report whose variants are trained.", autocompletion=names("reports"))]
Gpu = Annotated[str, typer.Option(help="Kind of GPU, as in flip/plan/facts.yaml.")]
Nodes = Annotated[int | None, typer.Option(min=1, help="Nodes of the cluster. [default: those of one training job]")]
Gpus = Annotated[int, typer.Option(min=1, help="GPUs per node.")]
GpusPerJob = Annotated[
    int | None, typer.Option(min=1, help="GPUs that train a variant. [default: resources.pretrain of the scale]")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Simultaneous jobs. [default: `jobs` of slurm/config.yaml]")]
Utilization = Annotated[
    float | None,
    typer.Option(parser=share, help="GPU utilization, from 0 to 1. [default: flip/plan/facts.yaml]"),
]
SamplesPerSecond = Annotated[
    float | None,
    typer.Option(parser=positive, help="Throughput of the baseline on one GPU; others are scaled by FLOPs."),
]
CaptionTokens = Annotated[
    float | None,
    typer.Option(parser=positive, help="Mean tokens per caption. [default: full captions, an upper bound]"),
]
Rows = Annotated[
    int | None,
    typer.Option(min=1, help="Rows of the source. [default: ledger, params.yaml, its files, flip/plan/facts.yaml]"),
]
Arrival = Annotated[
    float, typer.Option(parser=share, help="Share of rows that become pairs (LAION-400M: 0.68 in 2024).")
]
OriginalBytes = Annotated[
    float | None, typer.Option(parser=positive, help="Bytes downloaded per image. [default: flip/plan/facts.yaml]")
]
StoredBytes = Annotated[
    float | None, typer.Option(parser=positive, help="Bytes stored per image. [default: by download.image_size]")
]
Gigabits = Annotated[float, typer.Option(parser=positive, help="Bandwidth, Gbit/s.")]


Budget = Annotated[
    float | None,
    typer.Option(parser=positive, help="GPU-hours of one training: recommend a recipe, based on measured runs."),
]


def stated(context: typer.Context, kind: type) -> dict[str, Any]:
    """Return the options that have the name of a field of a data class, by that name."""
    return {field.name: context.params[field.name] for field in fields(kind) if field.name in context.params}


def show(estimate: "ScalePlan", left_out: list[str], as_json: bool, as_csv: bool) -> None:
    """Print a plan, and why variants are left out."""
    import json

    from flip.plan.show import as_csv as rows
    from flip.plan.show import text

    if as_json or as_csv:
        print(json.dumps(estimate.as_dict(), indent=1) if as_json else rows(estimate).rstrip("\n"))
    else:
        print(text(estimate))
    if left_out:
        typer.echo("\n".join(["\nLeft out:", *left_out]), err=as_json or as_csv)


def show_choices(project: "Project", hours: float, gpu: str, utilization: float | None, as_json: bool) -> None:
    """Print what to choose for a budget."""
    import json
    from dataclasses import asdict

    from flip.plan.budget import MeasuredRuns
    from flip.plan.facts import facts, find_gpu
    from flip.plan.show import choices_text

    found, products = find_gpu(gpu), project.baseline.train.products
    share = utilization or facts().utilization[found.generation].of(products)
    choices = MeasuredRuns(project, found, share).choices(hours)
    print(
        json.dumps([asdict(one) for one in choices], indent=1)
        if as_json
        else choices_text(choices, project.primary_set)
    )


def plan(
    context: typer.Context,
    scale: Scale = None,
    report: Report = "ablations",
    gpu: Gpu = "h100",
    nodes: Nodes = None,
    gpus: Gpus = 8,
    gpus_per_job: GpusPerJob = None,
    jobs: Jobs = None,
    utilization: Utilization = None,
    samples_per_second: SamplesPerSecond = None,
    caption_tokens: CaptionTokens = None,
    rows: Rows = None,
    arrival: Arrival = 1.0,
    original_bytes: OriginalBytes = None,
    stored_bytes: StoredBytes = None,
    gigabits: Gigabits = 2.0,
    budget: Budget = None,
    params: Params = Path("params.yaml"),
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Estimate what a scale costs: FLOPs, GPU-hours, memory, days.

        flip plan --scale laion400m --gpu h100 --nodes 2 --gpus 8
        flip plan --scale cc12m --gpu h100 --budget 500

    Nothing is trained. The output lists all assumptions with their sources.
    """
    from flip.config.resolve import read_project
    from flip.plan.estimate import Assumptions
    from flip.plan.plan import cluster_gpus
    from flip.plan.plan import plan as planned
    from flip.plan.schedule import job_limit

    project = read_project(params, scale).check()
    if budget:
        return show_choices(project, budget, gpu, utilization, as_json)
    size = {"gpus": cluster_gpus(project, nodes, gpus, gpus_per_job), "jobs": jobs or job_limit()}
    show(*planned(project, report, Assumptions(**stated(context, Assumptions) | size)), as_json, as_csv)
