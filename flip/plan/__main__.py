"""Estimate what a scale will cost before it is run: FLOPs, GPU-hours, memory, storage, network, days.

    python -m flip.plan --scale laion400m --gpu h100 --nodes 2 --gpus 8

Nothing is trained: a step of each way of training is run once on tensors that have shapes and no values, and what it
costs is remembered in .flip/counts. All else follows from params.yaml, from flip/plan/facts.yaml and from what is
stated here; what was measured on the GPU in question (tables/<scale>/<report>/cost.json) goes first.
"""

import argparse
from collections.abc import Sequence

from flip.config.faults import ParameterError
from flip.config.resolve import Project, read_project
from flip.files import write_atomic, write_json
from flip.plan.counts import Uncounted
from flip.plan.estimate import Assumptions, ScalePlan, gpus_per_job
from flip.plan.facts import facts
from flip.plan.schedule import job_limit
from flip.plan.show import as_csv, text
from flip.plan.step import memory
from flip.train.work import job_gpus, work


def share(value: str) -> float:
    number = float(value)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{value}: above 0 and at most 1 is possible")
    return number


def positive(value: str) -> float:
    number = float(value)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{value}: only more than 0 is possible")
    return number


def count(value: str) -> int:
    return int(positive(str(int(value))))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flip.plan", description=__doc__.splitlines()[0])
    add, known = parser.add_argument, facts()
    add("--params", default="params.yaml", help="default: params.yaml")
    add("--scale", help="default: the scale that params.yaml names")
    add("--report", default="ablations", help="whose variants are trained (default: ablations)")
    add("--gpu", default="h100", help=f"kind of GPU: {', '.join(known.gpus)} (default: h100)")
    add("--nodes", type=count, help="nodes of the cluster (default: those of one training job)")
    add("--gpus", type=count, default=8, help="GPUs per node (default: 8)")
    add("--gpus-per-job", type=count, help="GPUs that train a variant (default: resources.pretrain of the scale)")
    add("--jobs", type=count, help="jobs at a time (default: `jobs` of slurm/config.yaml)")
    add(
        "--utilization",
        type=share,
        help="share of the GPU's rate that training reaches (default: flip/plan/facts.yaml)",
    )
    add("--samples-per-second", type=positive, help="of the baseline variant on one GPU; others follow by their FLOPs")
    add("--caption-tokens", type=positive, help="mean tokens per caption (default: all slots are full, an upper bound)")
    add("--rows", type=count, help="rows of the URL list (default: manifest, params.yaml, flip/plan/facts.yaml)")
    add(
        "--arrival",
        type=share,
        default=1.0,
        help="share of rows that becomes pairs (default: 1; LAION-400M: 0.68 in 2024)",
    )
    add("--original-bytes", type=positive, help=f"per image on the wire (default: {known.pictures.original_bytes:,})")
    add("--stored-bytes", type=positive, help="per image in a shard (default: by download.image_size)")
    add("--gigabits", type=positive, default=2.0, help="bandwidth, Gbit/s (default: 2)")
    add("--json", metavar="FILE", help="everything as JSON as well")
    add("--csv", metavar="FILE", help="a row per variant as CSV as well")
    return parser


def assumptions(options: argparse.Namespace, project: Project) -> Assumptions:
    same: tuple[str, ...] = ("gpu", "gpus_per_job", "utilization", "samples_per_second", "caption_tokens", "rows")
    same += ("arrival", "original_bytes", "stored_bytes", "gigabits")
    chosen = {name: getattr(options, name) for name in same}
    per_job = options.gpus_per_job or job_gpus(project.baseline.resources.pretrain)
    nodes = options.nodes or max(-(-per_job // options.gpus), 1)
    return Assumptions(gpus=nodes * options.gpus, jobs=options.jobs or job_limit(), **chosen)


def countable(project: Project, given: Assumptions) -> tuple[Project, list[str]]:
    """Return the project without variants whose steps cannot be counted, and why, a line for each.

    Raises:
        ParameterError: no other is left.
    """
    faults, processes = {}, gpus_per_job(project, given)
    for name in project.named:
        try:
            memory(work(project.variants[name], processes, given.caption_tokens))
        except Uncounted as error:
            faults[name] = str(error)
    lists = {name: [v for v in table.variants if v not in faults] for name, table in project.tables.items()}
    tables = {name: project.tree["tables"][name] | {"variants": kept} for name, kept in lists.items() if kept}
    if not tables:
        raise ParameterError("\n".join([*faults.values(), "No other variant is left."]))
    return Project(project.tree | {"tables": tables}, project.scale), [*faults.values()]


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        project = read_project(options.params, options.scale).check()
        given = assumptions(options, project)
        known, left_out = countable(project.of(options.report), given)
        estimate = ScalePlan(known, given)
    except (ParameterError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        write_json(options.json, estimate.as_dict())
    if options.csv:
        write_atomic(options.csv, as_csv(estimate))
    print(text(estimate))
    if left_out:
        print("\nLeft out:", *left_out, sep="\n")


if __name__ == "__main__":
    main()
