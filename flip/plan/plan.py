"""Estimate what a scale will cost before it is run: FLOPs, GPU-hours, memory, storage, network, days.

Nothing is trained: a step of each way of training is run once on tensors that have shapes and no values, and what it
costs is remembered in .flip/counts. All else follows from params.yaml, from flip/plan/facts.yaml and from what is
stated; what was measured on the GPU in question (tables/<scale>/<report>/cost.json) goes first.
"""

from flip.config.faults import ParameterError
from flip.config.resolve import Project
from flip.plan.counts import Uncounted
from flip.plan.estimate import Assumptions, ScalePlan, gpus_per_job
from flip.plan.step import memory
from flip.train.work import job_gpus, work


def cluster_gpus(project: Project, nodes: int | None, gpus: int, per_job: int | None) -> int:
    """Return the GPUs of a cluster whose nodes have `gpus` each; without `nodes`, of those of one training job."""
    per_job = per_job or job_gpus(project.baseline.resources.pretrain)
    return (nodes or max(-(-per_job // gpus), 1)) * gpus


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


def plan(project: Project, report: str, given: Assumptions) -> tuple[ScalePlan, list[str]]:
    """Return the plan of a report's variants, and why others are left out, a line for each.

    Raises:
        ParameterError: what `countable` and `ScalePlan` refuse.
    """
    known, left_out = countable(project.of(report), given)
    return ScalePlan(known, given), left_out
