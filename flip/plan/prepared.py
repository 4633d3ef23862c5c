"""Say what jobs cost that compute embeddings, scores of pairs, words or codes once, before trainings read them."""

from pathlib import Path

from flip.config.frozen import load
from flip.config.resolve import Project
from flip.config.schema import Params, is_folder
from flip.plan.counts import PartCost, remembered
from flip.plan.facts import facts
from flip.plan.schedule import PlannedJob
from flip.plan.step import encoding

SCORE_BYTES = 4
BY_CAPTION = ("words", "count_mentions", "score_pairs")


def model_of(project: Project, place: str | None, instead: Params) -> Params:
    """Return the parameters of a variant, or of an imported folder; where that is not there yet, those `instead`."""
    if not is_folder(place):
        return project.variants[place or instead.variant]
    path = Path(str(place), "params.yaml")
    return load(path) if path.exists() else instead


def encoder(project: Project, job: PlannedJob) -> Params | None:
    """Return the model that a job encodes images, or pairs, with; None where it does not."""
    params = project.variants[job.name.split("/")[1]] if job.rule in ("embed", "embed_pairs", "score_pairs") else None
    if params is None or job.rule == "embed":
        return params
    if job.rule == "embed_pairs":
        is_taught = params.embeddings == params.variant  # by a folder
        return model_of(project, params.distillation.teacher, params) if is_taught else params
    by = params.curation.by if params.curation else None
    return model_of(project, by, params) if by else None


def flops(project: Project, job: PlannedJob, used: int) -> float:
    """Return the FLOPs of a job over its share of so many pairs; 0 where it runs no model."""
    if job.rule == "codebook":
        form = project.baseline.codebook
        return 0 if form.weights else remembered("count_codebook", PartCost, project.baseline).flops * form.samples
    if (params := encoder(project, job)) is None:
        return 0
    each = encoding(params)
    share = 1 / project.baseline.download.parts if job.rule == "score_pairs" else 1
    return used * share * (each.image + (job.rule != "embed") * each.text)


def hours(project: Project, job: PlannedJob, used: int, rate: float) -> float:
    """Return how long such a job runs, on GPUs of so many FLOPs per second each."""
    if job.rule in BY_CAPTION and encoder(project, job) is None:
        return used / project.baseline.download.parts / facts().captions_per_job / 3600
    return flops(project, job, used) / rate / max(job.gpus, 1) / 3600


def stored_bytes(project: Project, job: PlannedJob, used: int) -> float:
    """Return the bytes of features, embeddings or scores of so many pairs that a job leaves for trainings."""
    if job.rule == "score_pairs":
        return SCORE_BYTES * used / project.baseline.download.parts
    params = encoder(project, job)
    if params is None:
        return 0
    number = 2 if params.train.autocast == "bfloat16" else 4
    return used * params.embedding * number * (2 if job.rule == "embed_pairs" else 1)
