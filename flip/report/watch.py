"""Say how far a run of the workflow is: jobs, share of the work by time, time left, losses; at its end, what came out.

Read is Snakemake's own log, so nothing has to be switched on. Work is measured in seconds: of a rule, the mean of the
receipts that there are; of a training at work, what its progress says. $FLIP_WEBHOOK names a URL that is told the end.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from urllib import request

from flip.files import read_json
from flip.provenance.layout import Layout

LOGS = Path(".snakemake/log")
WEBHOOK = "FLIP_WEBHOOK"
SECONDS = 60.0  # of a job of a rule that has never run
STEP = 0.04  # share of the work between lines
SHOWN = 12  # lines of errors, at most
BLOCK = re.compile(
    r"^(?P<local>local)?rule (?P<rule>\w+):$|^    jobid: (?P<id>\d+)$|^    wildcards: (?P<wildcards>.*)$"
    r"|^Finished jobid: (?P<finished>\d+) |^Error in rule (?P<failed>\w+):$|^(?P<count>\w+) +(?P<jobs>\d+)$",
    re.MULTILINE,
)


@dataclass
class RunLog:
    """Hold what a log says: jobs planned by rule, jobs at work and finished ones by id, failures."""

    planned: dict[str, int] = field(default_factory=dict)
    working: dict[str, tuple[str, str]] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)
    failures: int = 0

    @property
    def jobs(self) -> int:
        return self.planned.get("total", 0)


def read_log(text: str) -> RunLog:
    """Read Snakemake's log."""
    run, rule, job = RunLog(), "", ""
    for found in BLOCK.finditer(text):
        if found["count"] and not run.working and not run.finished:
            run.planned[found["count"]] = int(found["jobs"])
        elif found["failed"]:
            run.failures, rule = run.failures + 1, ""
        elif found["rule"]:
            rule = found["rule"]
        elif found["id"] and rule:
            job = found["id"]
            run.working[job] = (rule, "")
        elif found["wildcards"] and job in run.working:
            run.working[job] = (run.working[job][0], found["wildcards"])
        elif found["finished"]:
            run.finished[found["finished"]] = run.working.pop(found["finished"], ("", ""))[0]
    return run


def durations(receipts: Path) -> dict[str, float]:
    """Return the mean seconds of the jobs of each stage that left receipts, by the last part of their names."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for path in receipts.rglob("*.json"):
        with suppress(ValueError, KeyError, OSError):
            one = read_json(path)
            start, end = (datetime.fromisoformat(one[name]) for name in ("start", "end"))
            seconds[path.stem if not path.stem.isdigit() else path.parent.name].append((end - start).total_seconds())
    return {name: sum(found) / len(found) for name, found in seconds.items()}


@dataclass(frozen=True)
class TrainingProgress:
    """Hold the progress of a training: share done, seconds left, last loss."""

    name: str
    share: float
    left: float
    loss: str


def seconds(clock: str) -> float:
    """Return the seconds of [days:]hours:minutes:seconds, or of what tqdm does not know yet."""
    parts = [int(part) for part in clock.split(":") if part.isdigit()]
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def training(log: Path, name: str) -> TrainingProgress | None:
    """Read the last word of a training's progress; None if it has said nothing yet."""
    with suppress(OSError):
        words = log.read_text(errors="replace")[-2000:]
        if found := re.findall(r"(\d+)%\|.*?\[([\d:?]+)<([\d:?]+)(?:.*?loss=([\d.enai+-]+))?", words):
            percent, _, left, loss = found[-1]
            return TrainingProgress(name, int(percent) / 100, seconds(left), loss)
    return None


def trainings(run: RunLog, layout: Layout) -> list[TrainingProgress]:
    """Read the progress of all trainings at work."""
    found = []
    for rule, wildcards in run.working.values():
        if rule == "pretrain":
            of = dict(word.split("=", 1) for word in wildcards.split(", ") if "=" in word)
            variant, seed = of.get("variant", ""), of.get("seed", "")
            found.append(training(Path(layout.log("pretrain", variant, f"seed-{seed}")), variant))
    return [one for one in found if one]


def work(run: RunLog, known: dict[str, float], at_work: list[TrainingProgress]) -> tuple[float, float]:
    """Return the seconds of work that are done, and that are left."""
    mean = {rule: known.get(rule, SECONDS) for rule in run.planned}
    done = sum(mean.get(rule, SECONDS) for rule in run.finished.values())
    total = sum(mean[rule] * count for rule, count in run.planned.items() if rule != "total")
    begun = sum(one.share * mean.get("pretrain", SECONDS) for one in at_work)
    return done + begun, max(total - done - begun, 0.0)


@dataclass(frozen=True)
class Progress:
    """How far a run is: jobs, finished ones and failures, the share of its work that is done, seconds left, and the
    trainings at work."""

    jobs: int
    finished: int
    failures: int
    share: float
    seconds_left: float
    trainings: list[TrainingProgress]

    def __str__(self) -> str:
        hours = timedelta(seconds=round(self.seconds_left))
        words = [f"{self.finished} of {self.jobs} jobs", f"{self.share:.0%} of the work", f"about {hours} left"]
        words += [f"{one.name} {one.share:.0%}{f' loss {one.loss}' if one.loss else ''}" for one in self.trainings[:4]]
        failed = [f"{self.failures} failed and tried again or given up"] if self.failures else []
        return "; ".join([*words, *failed])


def progress(run: RunLog, layout: Layout) -> Progress:
    """Return how far a run is."""
    at_work = trainings(run, layout)
    done, left = work(run, durations(Path(layout.receipts.root)), at_work)
    seconds_left = max(left / max(len(run.working), 1), *(one.left for one in at_work), 0.0)
    share = done / (done + left) if done + left else 0.0
    return Progress(run.jobs, len(run.finished), run.failures, share, seconds_left, at_work)


def headlines(page: Path) -> list[str]:
    """Return the first sentences of each report on a page."""
    text = page.read_text() if page.exists() else ""
    sections = re.findall(r'<section class="key".*?</section>', text, re.DOTALL)
    sentences = [re.search(r"<li>(.*?)</li>", one, re.DOTALL) for one in sections]
    return [unescape(" ".join(re.sub(r"<[^>]+>", "", one[1]).split())) for one in sentences if one]


def ending(layout: Layout, succeeded: bool, log: str | Path | None) -> str:
    """Say how a run ended: the newest page with its headline, or the log with the reasons."""
    pages = sorted(Path(layout.tables).glob("**/index.html"), key=lambda path: path.stat().st_mtime)
    if succeeded and pages:
        return "\n".join([f"Done: {pages[-1]}", *headlines(pages[-1])])
    return "Done." if succeeded else f"Failed: {log} says why"


def tell(text: str) -> None:
    """Post a text to the URL that $FLIP_WEBHOOK names, as chat programs take it; a failure is a line and no more."""
    if url := os.environ.get(WEBHOOK):
        body = json.dumps({"text": text, "content": text}).encode()
        try:
            request.urlopen(request.Request(url, body, {"Content-Type": "application/json"}), timeout=10).close()
        except (OSError, ValueError) as error:
            print(f"${WEBHOOK}: not called ({error})", file=sys.stderr)


def follow(layout: Layout, log: Path, ended: Callable[[], bool], pause: float) -> None:
    """Print a line whenever a good part more of the work is done."""
    shown = -1.0
    while True:
        last, run = ended(), read_log(log.read_text(errors="replace"))
        found = progress(run, layout)
        if last or (run.jobs and found.share >= shown + STEP):
            print(f"{datetime.now():%H:%M:%S}  {found}", flush=True)
            shown = found.share
        if last:
            return
        time.sleep(pause)


def has_ended(log: Path) -> bool:
    return "Complete log(s):" in log.read_text(errors="replace")[-500:] or time.time() - log.stat().st_mtime > 86400


def reasons(text: str) -> list[str]:
    """Return the first lines of the first error in a log."""
    block = r".*(?:\n(?!\[).*)*"
    of_job, other = (re.search(f"^{words}{block}", text, re.MULTILINE) for words in ("Error in rule", r"\w*Error\b"))
    found = of_job or other
    return found[0].splitlines()[:SHOWN] if found else []


def launched(command: Sequence[str], layout: Layout, pause: float) -> int:
    """Run Snakemake with few lines on this terminal, the rest in a log that is named; return its exit code."""
    log = Path(layout.log("run", f"{datetime.now():%Y%m%d-%H%M%S}"))
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"All that is said goes to {log}", flush=True)
    with open(log, "w") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        try:
            follow(layout, log, lambda: process.poll() is not None, pause)
        except KeyboardInterrupt:
            process.wait()
    if process.returncode:
        print("\n".join(reasons(log.read_text(errors="replace"))))
    print(ending(layout, not process.returncode, log))
    return process.returncode


def newest_log() -> Path:
    """Return the log of the newest run in this folder.

    Raises:
        ValueError: there was none.
    """
    logs = sorted(LOGS.glob("*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        raise ValueError(f"{LOGS}: no workflow has run in this folder")
    return logs[-1]


def newest(layout: Layout, pause: float) -> str:
    """Follow the newest run in this folder to its end; return what it ended with."""
    log = newest_log()
    follow(layout, log, lambda: has_ended(log), pause)
    return ending(layout, "Exiting because a job execution failed" not in log.read_text(), log)
