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
    base, named = project.baseline, [project.variants[name] for name in project.named]
    found = [*prepared_jobs(project, gpus), PlannedJob("preflight", 0, ("tokenizer",))]
    one = min(base.resources.evaluate.gpus, gpus)
    for seed in base.seeds:
        for params in named:
            found.append(PlannedJob(f"pretrain/{params.variant}/{seed}", gpus, ("preflight", *awaited(params, seed))))
        for params in named:
            before = f"pretrain/{params.variant}/{seed}", *translated_sets(params)
            found.append(PlannedJob(f"evaluate/{params.variant}/{seed}", one, before))
    evaluated = tuple(job.name for job in found if job.rule == "evaluate")
    read = dict.fromkeys(name for params in named for name in read_by_steps(params))
    cost = PlannedJob("cost", base.resources.pretrain.gpus and 1, ("tokenizer", *read))
    return [*found, cost, PlannedJob("tables", 0, (*evaluated, "cost"))]


def read_by_steps(params: Params) -> list[str]:
    """Name the jobs whose results each step of a variant reads, whatever the seed."""
    words = ["all_words"] if params.masking.reads_words else []
    codes = ["codebook"] if params.flava.reads_codes else []
    return [*words, *codes, *([f"translations/{params.captions.language_key}"] if params.captions.translated else [])]


def translated_sets(params: Params) -> list[str]:
    """Name the jobs that make test sets in the languages that a variant reads."""
    return [f"translated_set/{one}" for one in params.captions.languages if one in params.evaluate.languages]


def awaited(params: Params, seed: int) -> list[str]:
    """Name the jobs that a training waits for."""
    found = [f"pretrain/{one}/{seed}" for one in params.before] + read_by_steps(params)
    found += [f"embed/{params.features}/{seed}"] if params.features else []
    found += [f"embed_pairs/{params.embeddings}/{seed}"] if params.embeddings else []
    return found + ([f"select_pairs/{params.variant}/{seed}"] if params.curation else [])


def prepared_jobs(project: Project, gpus: int) -> list[PlannedJob]:
    """Return the jobs of rules/words.smk, codebook.smk, languages.smk, embed.smk and curate.smk."""
    base, named = project.baseline, [project.variants[name] for name in project.named]
    found, parts, read = [], base.download.part_names, {name for one in named for name in read_by_steps(one)}
    if "all_words" in read or any(one.curation.reads_words for one in named if one.curation):
        found += [PlannedJob(f"words/{part}", 0, (f"shards/{part}",)) for part in parts]
        found.append(PlannedJob("all_words", 0, tuple(f"words/{part}" for part in parts)))
    if "codebook" in read:
        found.append(PlannedJob("codebook", min(base.resources.pretrain.gpus, gpus), ("manifest",)))
    spoken = [*(name for name in read if "/" in name), *{name for one in named for name in translated_sets(one)}]
    found += [PlannedJob(name, 0, ("manifest",) if name.startswith("translations") else ()) for name in sorted(spoken)]
    for seed in base.seeds:
        found += encoding_jobs(project, seed, gpus)
        for params in (one for one in named if one.curation):
            found += curation_jobs(params, seed, parts, min(base.resources.evaluate.gpus, gpus))
    return found


def encoding_jobs(project: Project, seed: int, gpus: int) -> list[PlannedJob]:
    """Return the jobs that embed all images, or pairs, for the trainings of a seed."""
    named, data, found = [project.variants[name] for name in project.named], ("manifest", "tokenizer"), []
    for name in sorted({one.features for one in named if one.features}):
        own = () if project.variants[name].image_tower.file else (f"pretrain/{name}/{seed}",)
        found.append(PlannedJob(f"embed/{name}/{seed}", gpus, ("manifest", *own)))
    for name in sorted({one.embeddings for one in named if one.embeddings}):
        own = () if project.variants[name].embeddings == name else (f"pretrain/{name}/{seed}",)
        found.append(PlannedJob(f"embed_pairs/{name}/{seed}", gpus, (*data, *own)))
    return found


def curation_jobs(params: Params, seed: int, parts: list[str], gpus: int) -> list[PlannedJob]:
    """Return the jobs that choose a variant's pairs."""
    curation, run, found = params.curation, f"{params.variant}/{seed}", []
    assert curation is not None
    before = [f"pretrain/{curation.by}/{seed}"] if curation.by in params.before else []
    if curation.reads_words:
        before = ["all_words"]
    if curation.reads_mentions:
        found = [PlannedJob(f"count_mentions/{run}/{part}", 0, ("manifest",)) for part in parts]
        found.append(PlannedJob(f"sum_mentions/{run}", 0, tuple(job.name for job in found)))
        before = [f"sum_mentions/{run}"]
    scores = [PlannedJob(f"score_pairs/{run}/{part}", gpus, ("manifest", "tokenizer", *before)) for part in parts]
    return [*found, *scores, PlannedJob(f"select_pairs/{run}", 0, tuple(job.name for job in scores))]


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
