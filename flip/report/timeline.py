"""Account for the wall-clock time of a report's results by their receipts: by stage, job by job, and when nothing ran.

A job counts with the time of its last start, on whatever day that was: results that existed already keep theirs.
Seconds are wall-clock time, not CPU time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from flip.metrics.names import transferred
from flip.provenance import receipt
from flip.provenance.layout import Records
from flip.report.results import Results

PAUSE = 60  # seconds in which nothing ran, from which on a figure leaves them out
LOST: dict[str, Any] = {"made_from": {"after": []}}  # stands for a receipt that is not there


@dataclass(frozen=True, order=True)
class Stretch:
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, order=True)
class TimedJob(Stretch):
    """Describe a job; `earlier`: seconds of training before the last start, if it was killed and continued."""

    stage: str
    name: str
    earlier: float = 0.0


def total(stretches: Iterable[Stretch]) -> float:
    """Return the total of their seconds."""
    return sum(one.seconds for one in stretches)


@dataclass(frozen=True)
class Timeline:
    """Hold jobs by their start, at least one."""

    jobs: list[TimedJob]

    @cached_property
    def idle(self) -> list[Stretch]:
        """Return the stretches in which none of the jobs ran."""
        found, end = [], self.jobs[0].start
        for job in self.jobs:
            if job.start > end:
                found.append(Stretch(end, job.start))
            end = max(end, job.end)
        return found

    @property
    def pauses(self) -> list[Stretch]:
        """Return the pauses that a figure leaves out."""
        return [one for one in self.idle if one.seconds > PAUSE]

    @property
    def gaps(self) -> list[Stretch]:
        """Return the pauses that it shows in full."""
        return [one for one in self.idle if one.seconds <= PAUSE]

    @property
    def passed(self) -> float:
        """Return the seconds from the first start to the last end."""
        return Stretch(self.jobs[0].start, max(job.end for job in self.jobs)).seconds

    @property
    def busy(self) -> float:
        """Return the seconds in which at least one job ran."""
        return self.passed - total(self.idle)

    @property
    def work(self) -> float:
        """Return the total of the seconds of all jobs."""
        return total(self.jobs)

    @property
    def earlier(self) -> float:
        return sum(job.earlier for job in self.jobs)

    def place(self, moment: datetime) -> float:
        """Return the seconds from the first start to a moment outside pauses, without the pauses between."""
        before = total([one for one in self.pauses if one.end <= moment])
        return Stretch(self.jobs[0].start, moment).seconds - before

    @property
    def lanes(self) -> list[int]:
        """Return for each job the first lane that is free when it starts: jobs in other lanes ran at the same time."""
        ends: list[datetime] = []
        found: list[int] = []
        for job in self.jobs:
            lane = next((number for number, end in enumerate(ends) if end <= job.start), len(ends))
            ends[lane : lane + 1] = [job.end]
            found.append(lane)
        return found

    def job_records(self) -> list[dict]:
        """Return records of the jobs; `offset`: seconds from the first start; `place`: the same without pauses."""
        return [
            {
                "stage": job.stage,
                "job": job.name,
                "start": job.start.isoformat(),
                "offset": round(Stretch(self.jobs[0].start, job.start).seconds, 3),
                "seconds": round(job.seconds, 3),
                "earlier_seconds": round(job.earlier, 1),
                "place": round(self.place(job.start), 3),
                "lane": lane,
            }
            for job, lane in zip(self.jobs, self.lanes, strict=True)
        ]

    def stage_records(self) -> list[dict]:
        """Return the stages, the longest first; `share` is that of all jobs' seconds."""
        found: dict[str, list[float]] = {}
        for job in self.jobs:
            found.setdefault(job.stage, []).append(job.seconds)
        rows = [
            {
                "stage": stage,
                "jobs": len(seconds),
                "seconds": round(sum(seconds), 3),
                "share": round(sum(seconds) / max(self.work, 1e-9), 4),
                "longest": round(max(seconds), 3),
            }
            for stage, seconds in found.items()
        ]
        return sorted(rows, key=lambda row: -row["seconds"])


def job(receipt: dict, name: str) -> TimedJob:
    """Read the time of a job from its receipt."""
    start, end = (datetime.fromisoformat(receipt[key]) for key in ("start", "end"))
    trained = receipt["facts"].get("training", {}).get("seconds", 0)
    return TimedJob(start, end, receipt["spec"]["stage"], name, max(0.0, trained - Stretch(start, end).seconds))


def jobs(last: Iterable[Path], folder: Path) -> list[TimedJob]:
    """Return some receipts and all upstream of them, by path in a folder. Missing ones are skipped."""
    found: dict[str, dict] = {}
    for path in last:
        found |= receipt.behind(str(path), lambda one: receipt.read(one) if Path(one).exists() else LOST)
    there = {path: receipt for path, receipt in found.items() if receipt is not LOST}
    return sorted(job(receipt, str(Path(path).relative_to(folder).with_suffix(""))) for path, receipt in there.items())


def last_receipts(results: Results) -> list[Path]:
    """Return the receipts that a report's tables are made of: evaluations, costs, transfer."""
    at, report = Records(str(results.receipts)), next(iter(results.project.reports))
    jobs = transferred(results.project)
    found = [at.tables(report, "cost")]
    for name, run in results.runs.items():
        found += [at.variant(name, "evaluate", seed) for seed in run.params.seeds]
        found += [
            at.transfer(report, name, job, seed) for job in sorted(jobs.get(name, ())) for seed in run.params.seeds
        ]
    return [Path(one) for one in found]


def read(results: Results) -> Timeline | None:
    """Return the timeline of a report's jobs; None without receipts."""
    found = jobs(last_receipts(results), results.receipts)
    return Timeline(found) if found else None
