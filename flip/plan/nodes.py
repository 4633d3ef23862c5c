"""Look at the project's folder from the nodes of a cluster: one tiny job in each place that jobs go to.

The job reads a file that was written here and writes one that is read here, with the interpreter that jobs run. So a
folder that nodes do not mount, or a Python that they lack, is a line before the first job of a workflow.
"""

import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flip.plan.slurm import NoAnswer, Request, ask

FOLDER = Path(".flip/nodes")
BUSY = 60.0  # seconds for which a free node is waited for
LOOK = 0.5  # seconds between looks at a job
COPY = "import sys; open(sys.argv[2], 'w').write(open(sys.argv[1]).read())"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "forgotten"}


@dataclass(frozen=True)
class Errand:
    """Hold a job that was sent to nodes, where that was, and the start of its files' names."""

    job: str
    place: str
    path: Path

    def answered(self) -> bool:
        answer = self.path.with_suffix(".answer")
        return answer.exists() and answer.read_text() == self.path.name

    def state(self) -> str:
        """Return Slurm's state of the job."""
        try:
            return (
                ask("squeue", "--noheader", "--states=all", f"--jobs={self.job}", "--format=%T").strip() or "forgotten"
            )
        except NoAnswer as error:
            if "Invalid job id" in str(error):
                return "forgotten"
            raise

    def said(self) -> str:
        """Return the last line of what the job has printed, if that came here."""
        log = self.path.with_suffix(".log")
        return "".join((log.read_text(errors="replace") if log.exists() else "").splitlines()[-1:])

    def clear(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)


def smallest(requests: Sequence[Request]) -> list[Request]:
    """Return a small job for each place that requests go to; with a GPU where they have some."""
    small = [
        replace(one, name="flip-doctor", minutes=2, memory_mb=200, cores=1, nodes=1, gpus=min(one.gpus, 1))
        for one in requests
    ]
    return list(dict.fromkeys(small))


def send(request: Request, path: Path) -> Errand:
    """Submit a job that copies the file at `path`; names of its other files begin with that.

    Raises:
        NoAnswer: sbatch refuses it.
    """
    command = shlex.join([sys.executable, "-c", COPY, str(path), f"{path}.answer"])
    words = [f"--job-name={request.name}", f"--chdir={Path.cwd()}", f"--output={path}.log", f"--wrap={command}"]
    job = ask("sbatch", "--parsable", *request.options(), *words).strip().split(";")[0]
    return Errand(job, f"partition '{request.partition}'" if request.partition else "the default partition", path)


def wait(errand: Errand, busy: float, late: float) -> Literal["answered", "ended", "busy"]:
    """Wait for a job's answer.

    Its files may come here `late` seconds after its end; if no node is free for `busy` seconds, it is cancelled.
    """
    begun, ended = time.monotonic(), float("inf")
    while not errand.answered():
        state, now = errand.state(), time.monotonic()
        if state == "PENDING" and now - begun > busy:
            ask("scancel", errand.job)
            return "busy"
        if state in ENDED:
            ended = min(ended, now)
        if now - ended > late:
            return "ended"
        time.sleep(LOOK)
    return "answered"


def look(requests: Sequence[Request], late: float, busy: float = BUSY) -> tuple[list[str], list[str]]:
    """Return a line for each place whose nodes do not see this folder, and one for each where no node has looked."""
    faults: list[str] = []
    unknown: list[str] = []
    errands: list[Errand] = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for request in smallest(requests):
        path = (FOLDER / uuid.uuid4().hex).absolute()
        path.write_text(path.name)
        try:
            errands.append(send(request, path))
        except NoAnswer as error:
            path.unlink()
            unknown.append(str(error))
    for errand in errands:
        answer, said = wait(errand, busy, late), errand.said() or "it could not write there"
        errand.clear()
        if answer == "busy":
            unknown.append(f"{errand.place}: no node was free for {busy:g} s")
        if answer == "ended":
            faults.append(
                f"{errand.place}: its nodes do not see {Path.cwd()}, or {sys.executable}, as this machine does (a job "
                f"said: {said}); keep the project in a folder that all nodes mount"
            )
    return faults, unknown
