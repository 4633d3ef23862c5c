"""Compute, from parameters and assumptions, what each variant and all of it cost."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flip.config.resolve import Project
from flip.config.schema import Params
from flip.files import read_json
from flip.plan import prepared
from flip.plan.data import Data, download_hours, find_data, stored_bytes
from flip.plan.facts import facts, find_gpu
from flip.plan.schedule import PlannedJob, data_jobs, simulate, variant_jobs
from flip.plan.step import ADAM, FULL, encoding, memory, step_flops, weights
from flip.provenance.layout import Layout
from flip.train.work import Work, changed, in_parts, job_gpus, work

PRODUCTS = ("bfloat16", "tf32", "float32")
# Of images per test set, where the set is not the world's: ImageNet's validation set, the largest of the usual ones.
TEST_IMAGES = 50_000


@dataclass(frozen=True)
class Assumptions:
    """Hold what the user may state; None: from params.yaml, facts.yaml or a measurement, as the report says."""

    gpu: str
    gpus: int
    jobs: int
    gpus_per_job: int | None = None
    utilization: float | None = None
    samples_per_second: float | None = None
    caption_tokens: float | None = None
    rows: int | None = None
    arrival: float = 1.0
    original_bytes: float | None = None
    stored_bytes: float | None = None
    gigabits: float = 2.0
    overhead_minutes: float = 1.0


@dataclass(frozen=True)
class VariantPlan:
    """Hold one variant, its seeds together; memory and FLOPs per sample are the same for each."""

    variant: str
    samples: int
    flops_per_sample: float
    relative_flops: float
    flops: float
    gpu_hours: float
    hours: float
    restarts: int
    memory_bytes: float
    fits: bool
    remedy: str
    weights_bytes: int
    checkpoint_bytes: int


def gpus_per_job(project: Project, given: Assumptions) -> int:
    return given.gpus_per_job or job_gpus(project.baseline.resources.pretrain) or 1


class ScalePlan:
    """Hold all numbers of a project at its scale.

    Raises:
        ParameterError: an unknown GPU, more GPUs per job than there are, or a list whose length is not known.
        Uncounted: a variant's step cannot be counted.
    """

    def __init__(self, project: Project, given: Assumptions):
        self.project, self.given = project, given
        self.base, self.gpu = project.baseline, find_gpu(given.gpu)
        self.per_job = gpus_per_job(project, given)
        self.data: Data = find_data(self.base, given.rows, given.arrival)
        self.measured = self._measurements()
        self.rows = [self._row(project.variants[name]) for name in project.named]
        self.jobs = data_jobs(project) + variant_jobs(project, self.per_job)
        self.times = simulate(self.jobs, self._hours, given.jobs, given.gpus)

    def work(self, params: Params) -> Work:
        return work(params, self.per_job, self.given.caption_tokens)

    @property
    def room(self) -> float:
        """Return the bytes that a GPU has for tensors."""
        return self.gpu.memory_gb * 1e9 * facts().usable_memory

    @property
    def utilization(self) -> float:
        return self.share_in(self.base.train.products)

    def share_in(self, precision: str) -> float:
        """Return the share of the GPU's rate that products of this precision reach."""
        return self.given.utilization or facts().utilization[self.gpu.generation].of(precision)

    def _measurements(self) -> dict[str, float]:
        """Read the seconds per sample by variant, where `flip.train.step_cost` measured them on this kind of GPU."""
        paths = [Path(Layout(self.project.scale).cost(report)) for report in self.project.reports]
        stored = [read_json(path) for path in paths if path.exists()]
        here = [one["variants"] for one in stored if one["device"] == self.gpu.device]
        return {name: one["seconds_per_sample"] for variants in here for name, one in variants.items()}

    @property
    def throughput(self) -> str:
        """Say where GPU-hours come from."""
        if self.given.samples_per_second:
            return (
                f"stated: {self.base.variant} does {self.given.samples_per_second:g} samples/s per GPU, others by FLOPs"
            )
        if self.measured:
            return f"measured on one {self.gpu.device} (cost.json in tables/{self.project.scale})"
        precision, share = self.base.train.products, self.utilization
        found = f"stated: {share:.0%} of {self.gpu.rate(precision) / 1e12:g} TFLOP/s in {precision}"
        of = facts().utilization[self.gpu.generation].found
        basis = f" ({of})" if precision != "float32" and not self.given.utilization else ""
        return f"{found}{basis}; no measurement on this GPU"

    def seconds_per_sample(self, params: Params) -> float:
        """Return the seconds that one GPU takes per sample."""
        here = flops_per_sample(self.work(params))
        if self.given.samples_per_second:
            return here / flops_per_sample(self.work(self.base)) / self.given.samples_per_second
        if params.variant in self.measured:
            return self.measured[params.variant]
        return here / self.rate(params)

    def rate(self, params: Params) -> float:
        """Return the FLOPs per second of one GPU."""
        precision = params.train.products
        return self.share_in(precision) * self.gpu.rate(precision)

    @property
    def hours_by_precision(self) -> dict[str, float]:
        """Return the GPU-hours of all training in each precision; empty where times are not from rates."""
        if self.given.samples_per_second or self.measured:
            return {}
        total = self.totals_of_gpus["gpu_hours"] * self.rate(self.base)
        return {one: total / (self.share_in(one) * self.gpu.rate(one)) for one in PRODUCTS}

    def _row(self, params: Params) -> VariantPlan:
        load, seeds, limit = self.work(params), len(params.seeds), params.resources.pretrain.minutes
        samples = params.train.steps(self.data.used) * params.train.global_batch
        flops = flops_per_sample(load)
        hours = samples * self.seconds_per_sample(params) / self.per_job / 3600
        peak, count = memory(load).peak, weights(params)
        return VariantPlan(
            variant=params.variant,
            samples=samples * seeds,
            flops_per_sample=flops,
            relative_flops=flops / flops_per_sample(self.work(self.base)),
            flops=flops * samples * seeds,
            gpu_hours=hours * self.per_job * seeds,
            hours=hours,
            restarts=int(hours * 60 // limit),
            memory_bytes=peak,
            fits=peak <= self.room,
            remedy="",
            weights_bytes=FULL * count.total * seeds,
            checkpoint_bytes=FULL * (count.total + ADAM * count.trained) * params.train.keep_checkpoints * seeds,
        )

    @cached_property
    def advised(self) -> list[VariantPlan]:
        """Return the rows, with a remedy for what does not fit: to find one, more steps are counted."""
        loads = (self.work(self.project.variants[row.variant]) for row in self.rows)
        pairs = zip(self.rows, loads, strict=True)
        return [row if row.fits else replace(row, remedy=self._remedy(load)) for row, load in pairs]

    def _remedy(self, load: Work) -> str:
        """Find the settings that fit and cost the fewest FLOPs."""
        ways = sorted((step_flops(one), number, one) for number, one in enumerate(alternatives(load)))
        for flops, _, way in ways:
            if one := self._largest(way):
                train, more = one.params.train, flops / step_flops(load) - 1
                words = [f"micro_batch: {train.micro_batch}"] if train.micro_batch else []
                words += ["checkpoint_activations: true"] if train.checkpoint_activations else []
                return f"train: {{{', '.join(words)}}} ({memory(one).peak / 1e9:.0f} GB, {more:+.0%} FLOPs)"
        return "does not fit at any micro_batch: more memory per GPU is needed"

    def _largest(self, way: Work) -> Work | None:
        """Return the way itself, or with the largest micro-batch that divides it and fits; None where none does."""
        if way.whole:
            return way if self._fits(way) else None
        sizes = [size for size in range(1, way.pairs) if way.pairs % size == 0]
        whole = memory(in_parts(way, None))
        guess = way.pairs * (self.room - whole.state - whole.batch) / whole.step  # memory is nearly a line
        place = max(bisect_right(sizes, guess) - 1, 0)
        while place + 1 < len(sizes) and self._fits(in_parts(way, sizes[place + 1])):
            place += 1
        while place >= 0 and not self._fits(in_parts(way, sizes[place])):
            place -= 1
        return in_parts(way, sizes[place]) if place >= 0 else None

    def _fits(self, way: Work) -> bool:
        return memory(way).peak <= self.room

    def _hours(self, job: PlannedJob) -> float:
        """Return how long a job runs, with what it waits for at its start."""
        images, base = facts().images, self.base
        overhead = self.given.overhead_minutes / 60
        part = self.data.wanted / base.download.parts
        if job.rule == "download" and base.source.downloads:
            original = self.given.original_bytes or images.original_bytes
            return overhead + download_hours(base, self.data, original, self.given.gigabits, self.given.jobs)
        if job.rule in ("download", "fingerprints", "shards"):
            return overhead + part / images.per_job / 3600
        if job.rule == "duplicates":
            return overhead + self.data.used / base.shards.buckets / images.compared_per_job / 3600
        if job.rule == "pretrain":
            return overhead + next(row.hours for row in self.rows if row.variant == job.name.split("/")[1])
        if job.rule == "evaluate":
            return overhead + self.evaluation_hours
        return overhead + prepared.hours(self.project, job, self.data.used, self.rate(base))

    @property
    def evaluation_hours(self) -> float:
        """Return the hours of one forward of both towers over each set, and two more over the one of masked
        inference."""
        passes, pair = (len(self.base.evaluate.sets) + 2) * TEST_IMAGES, encoding(self.base)
        return passes * (pair.image + pair.text) / self.rate(self.base) / 3600

    @property
    def stored(self) -> dict[str, float]:
        """Return the bytes of an image with its caption: as downloaded, and in a shard."""
        compact, downloaded = self.base.shards.compact, self.base.download.image_size
        sides = {
            "as downloaded": downloaded,
            "in a shard": min(compact.image_size, downloaded) if compact else downloaded,
        }
        return {where: self.given.stored_bytes or stored_bytes(side) for where, side in sides.items()}

    @property
    def stays(self) -> bool:
        """Return whether all images stay in tars of others."""
        return self.base.source.kind == "tars" and not self.base.shards.compact

    @property
    def totals_of_gpus(self) -> dict[str, float]:
        """Sum FLOPs and GPU-hours over variants and over what is computed once for them, which is given by itself,
        too."""
        once = sum(prepared.flops(self.project, job, self.data.used) for job in self.jobs)
        hours = once / self.rate(self.base) / 3600
        return {
            "flops": once + sum(row.flops for row in self.rows),
            "gpu_hours": hours + sum(row.gpu_hours for row in self.rows),
            "prepared_gpu_hours": hours,
        }

    @property
    def totals(self) -> dict[str, float]:
        """Sum over variants; bytes; hours until the data is there and until all is done."""
        original = self.given.original_bytes or facts().images.original_bytes
        at_once = max(self.given.gpus // self.per_job, 1)
        largest = sorted((row.checkpoint_bytes for row in self.rows), reverse=True)
        return {
            "samples": sum(row.samples for row in self.rows),
            **self.totals_of_gpus,
            "prepared_bytes": sum(prepared.stored_bytes(self.project, job, self.data.used) for job in self.jobs),
            "download_bytes": self.data.wanted * original if self.base.source.downloads else 0,
            "shard_bytes": 0 if self.stays else self.data.used * self.stored["in a shard"],
            "scratch_bytes": 0 if self.base.source.kind == "tars" else self.data.used * self.stored["as downloaded"],
            "search_bytes": self.data.used * facts().images.search_bytes,
            "weights_bytes": sum(row.weights_bytes for row in self.rows),
            "checkpoint_bytes": sum(largest[:at_once]),
            "data_hours": self.times["tokenizer"][1],
            "hours": self.times["tables"][1],
        } | {f"gpu_hours_{name}": hours for name, hours in self.hours_by_precision.items()}

    def as_dict(self) -> dict:
        """Return everything, for JSON."""
        about: dict[str, Any] = {"scale": self.project.scale, "throughput": self.throughput, "data": asdict(self.data)}
        about |= {"gpus_per_job": self.per_job, "assumptions": asdict(self.given)}
        return about | {"variants": [asdict(row) for row in self.advised], "totals": self.totals}


def flops_per_sample(load: Work) -> float:
    return step_flops(load) / load.pairs


def alternatives(load: Work) -> Iterator[Work]:
    """List other ways to work on the same share: whole or in micro-batches, of whatever size; activations kept or
    not."""
    for again in (False, True):
        way = replace(load, params=changed(load.params, "train", checkpoint_activations=again))
        yield in_parts(way, None)
        if load.pairs > 1:
            yield in_parts(way, 1)
