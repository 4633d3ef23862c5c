"""Schedule the jobs of `snakemake ablations` on a cluster: which wait for which, and when each would run."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from flip.config.faults import ParameterError
from flip.config.resolve import Project
from flip.config.schema import Params


@dataclass(frozen=True)
class PlannedJob:
    """Hold a job: `name` is rule/wildcards; `after` names the jobs that it waits for."""

    name: str
    gpus: int
    after: tuple[str, ...]

    @property
    def rule(self) -> str:
        return self.name.split("/")[0]


def download_jobs(base: Params) -> list[PlannedJob]:
    """Return the jobs of the rule download: no more run at once than share what a host is asked, so each waits for one
    of as many before it."""
    names = [f"download/{part}" for part in base.download.part_names]
    at_once = base.download.sharing if base.source.downloads else len(names)
    before = [*[("table",)] * at_once, *(("table", name) for name in names)]
    return [PlannedJob(name, 0, after) for name, after in zip(names, before, strict=False)]


def data_jobs(project: Project) -> list[PlannedJob]:
    """Return the jobs of rules/data.smk and duplicates.smk."""
    base = project.baseline
    parts, groups, sets = base.download.part_names, base.download.groups, base.evaluate.sets
    doubles = tuple(f"duplicates/{bucket}" for bucket in base.shards.bucket_names)
    prints = {group: tuple(f"fingerprints/{part}" for part in some) for group, some in groups.items()}
    return [
        PlannedJob("table", 0, ()),
        *(PlannedJob(f"test_sets/{name}", 0, ()) for name in sets),
        *download_jobs(base),
        *(PlannedJob(f"fingerprints/{part}", 0, (f"download/{part}",)) for part in parts),
        PlannedJob("test_fingerprints", 0, tuple(f"test_sets/{name}" for name in sets)),
        *(PlannedJob(f"buckets/{group}", 0, before) for group, before in prints.items()),
        PlannedJob("all_buckets", 0, tuple(f"buckets/{group}" for group in groups)),
        *(PlannedJob(name, 0, ("test_fingerprints", "all_buckets")) for name in doubles),
        PlannedJob("all_duplicates", 0, doubles),
        *(PlannedJob(f"dropped/{group}", 0, ("all_duplicates",)) for group in groups),
        *(PlannedJob(f"shards/{part}", 0, (f"dropped/{group}",)) for group, some in groups.items() for part in some),
        PlannedJob("manifest", 0, ("table", *(f"shards/{part}" for part in parts))),
        PlannedJob("tokenizer", 0, ("manifest",)),
    ]


def variant_jobs(project: Project, gpus: int) -> list[PlannedJob]:
    """Return the jobs of rules/pretrain.smk, evaluate.smk and tables.smk; a training job holds `gpus` GPUs."""
    found, base = [PlannedJob("preflight", 0, ("tokenizer",))], project.baseline
    one = min(base.resources.evaluate.gpus, gpus)
    for seed in base.seeds:
        for name, params in ((name, project.variants[name]) for name in project.named):
            before = tuple(f"pretrain/{one}/{seed}" for one in params.before)
            found.append(PlannedJob(f"pretrain/{name}/{seed}", gpus, ("preflight", *before)))
        found += [PlannedJob(f"evaluate/{name}/{seed}", one, (f"pretrain/{name}/{seed}",)) for name in project.named]
    evaluated = tuple(job.name for job in found if job.rule == "evaluate")
    cost = PlannedJob("cost", base.resources.pretrain.gpus and 1, ("tokenizer",))
    return [*found, cost, PlannedJob("tables", 0, (*evaluated, "cost"))]


def job_limit(profile: str | Path = "slurm/config.yaml") -> int:
    """Return `jobs` of the cluster's profile."""
    return yaml.safe_load(Path(profile).read_text())["jobs"]


def simulate(
    jobs: list[PlannedJob], hours: Callable[[PlannedJob], float], limit: int, gpus: int
) -> dict[str, tuple[float, float]]:
    """Start and end of each job, hours: list scheduling. Whenever a job ends, those that wait for nothing start in the
    order given, as long as fewer than `limit` run and `gpus` suffice; one that does not fit lets smaller ones pass.

    Raises:
        ParameterError: a job that needs more GPUs than there are.
    """
    if large := next((job for job in jobs if job.gpus > gpus), None):
        raise ParameterError(f"{large.name} needs {large.gpus} GPUs and there are {gpus}; raise --nodes or --gpus")
    waits = [len(job.after) for job in jobs]
    followers: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        for name in job.after:
            followers.setdefault(name, []).append(number)
    ready, now = [n for n, count in enumerate(waits) if not count], 0.0
    running: list[tuple[float, int]] = []
    times: dict[str, tuple[float, float]] = {}
    while ready or running:
        for number in sorted(ready):
            if len(running) < limit and jobs[number].gpus <= gpus:
                ready.remove(number)
                gpus -= jobs[number].gpus
                times[jobs[number].name] = now, now + hours(jobs[number])
                heapq.heappush(running, (times[jobs[number].name][1], number))
        now, number = heapq.heappop(running)
        gpus += jobs[number].gpus
        for follower in followers.get(jobs[number].name, ()):
            waits[follower] -= 1
            if not waits[follower]:
                ready.append(follower)
    return times
