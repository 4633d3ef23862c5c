"""Kill the workflow a hundred times, at random moments of each stage, and compare its end with an undisturbed run's.

    python -m benchmarks.storm --kills 100

The whole pipeline in miniature runs again and again from nothing: download, shards, trainings by one process and by
two, evaluation, tables. Each kill (SIGKILL) hits Snakemake alone, any one process of its tree, or the whole tree. Then
the same command is called again. Data and weights must be equal to the last bit, and nothing may run on for 30 seconds.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import psutil

from flip.files import read_json
from tests.miniature import copy_workflow, environment, shrink, write_params

ALONE, ONE, ALL = "Snakemake alone", "one process of its tree", "the whole tree"
# Which are hit in turn; as one workflow runs from the first to the last, so do the kills.
STAGES = [
    "flip.synthetic.download",
    "flip.data.shards",
    "flip.train",
    "flip.train",
    "flip.evaluate",
    "flip.report.tables",
]
LATEST = 1.0  # seconds after a stage was seen at work, within which it is hit
AROUND = {"flip.provenance.receipt", "flip.train.launch"}  # what starts the commands of stages
GRACE = 30.0  # seconds after which what is left is an orphan


def project(folder: Path, processes: int) -> Path:
    """Write the workflow in miniature, whose trainings have so many processes."""
    folder.mkdir()
    copy_workflow(folder)

    def change(tree: dict) -> dict:
        tree = shrink(tree)
        tree["base"]["resources"]["pretrain"]["processes"] = processes
        return tree

    write_params(folder, change)
    return folder


def identities(folder: Path) -> dict[str, str]:
    """Return what identifies each result, by the path of its receipt, but for those that measure time."""
    receipts = folder / "receipts/tiny"
    paths = [path for name in ("data", "variants") for path in (receipts / name).rglob("*.json")]
    return {str(path.relative_to(receipts)): read_json(path)["id"] for path in sorted(paths)}


def start(folder: Path) -> psutil.Popen:
    """Start Snakemake as the leader of a session of its own."""
    with open(folder / "storm.log", "a") as log:
        words = ["snakemake", "ablations", "--cores", "2"]
        return psutil.Popen(words, cwd=folder, env=environment(folder), stdout=log, stderr=log, start_new_session=True)


def tree(process: psutil.Popen) -> list[psutil.Process]:
    """List a process and all that it started."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def belonging(folder: Path) -> list[psutil.Process]:
    """List the processes that work in a folder."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.pid != os.getpid() and one.status() != psutil.STATUS_ZOMBIE and one.cwd() == str(folder):
                found.append(one)
    return found


def strike(process: psutil.Popen, target: str, draw: random.Random) -> None:
    """Kill what the target says of a running workflow."""
    running = tree(process)
    for one in {ALONE: [process], ONE: [draw.choice(running or [process])], ALL: running}[target]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def at_work(process: psutil.Popen) -> set[str]:
    """Return the stages whose commands a workflow is running (flip.<stage>); `planning` where it runs none."""
    found = set()
    for one in tree(process):
        with suppress(psutil.Error):
            found.update(word for word in one.cmdline() if word.startswith("flip.") and word not in AROUND)
    return found or {"planning"}


def orphans(folder: Path) -> int:
    """Return how many processes of a workflow that has ended still run after `GRACE`; they are killed then."""
    until = time.monotonic() + GRACE
    while (left := belonging(folder)) and time.monotonic() < until:
        time.sleep(0.2)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    return len(left)


def clear(folder: Path) -> None:
    """Delete all that the workflow has made."""
    for name in ("data", "results", "receipts", "tables", "checkpoints", "logs", "specs", ".snakemake"):
        shutil.rmtree(folder / name, ignore_errors=True)


def reach(process: psutil.Popen, stage: str | None) -> int | None:
    """Wait until a stage is at work, and return None; or until the workflow has ended, and return its exit code."""
    while (code := process.poll()) is None and stage not in at_work(process):
        time.sleep(0.05)
    return code


def storm(folder: Path, kills: int, draw: random.Random, found: Counter) -> list[dict[str, str]]:
    """Run the workflow from nothing until so many kills have hit it; return what each complete run ended with."""
    ended: list[dict[str, str]] = []
    stages, process = cycle(STAGES), start(folder)
    stage = next(stages)
    while True:
        code = reach(process, stage if found["kills"] < kills else None)
        if code is None:
            time.sleep(draw.uniform(0, LATEST))
            target = draw.choice([ALONE, ONE, ALL])
            found.update(["kills", target, *at_work(process)])
            strike(process, target, draw)
            stage = next(stages)
            continue
        found["orphans"] += orphans(folder)
        if code == 0:
            ended.append(identities(folder))
            if found["kills"] >= kills:
                return ended
            clear(folder)
        process = start(folder)


def stages(found: Counter) -> str:
    """Return how often each stage was at work when a kill came."""
    names = {name: count for name, count in found.items() if name.startswith("flip.") or name == "planning"}
    return ", ".join(f"{name.removeprefix('flip.')} {names[name]}" for name in sorted(names))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the storm and print its table; the exit code is 1 where a result differs or a process was left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and targets (default: 0)")
    options = parser.parse_args(argv)
    draw, failed = random.Random(options.seed), False
    print("| processes of a training | kills | complete runs | equal bits | left after 30 s | at work when hit |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as base:
        for processes in (1, 2):
            folder, found = project(Path(base) / str(processes), processes), Counter()
            if code := start(folder).wait():
                sys.exit(f"the undisturbed run ended with {code}:\n{(folder / 'storm.log').read_text()[-4000:]}")
            expected = identities(folder)
            clear(folder)
            ended = storm(folder, options.kills // 2, draw, found)
            equal = sum(one == expected for one in ended)
            failed |= equal < len(ended) or bool(found["orphans"])
            hits = ", ".join(f"{found[target]} {target}" for target in (ALONE, ONE, ALL))
            counts = f"{len(ended)} | {equal} | {found['orphans']}"
            print(f"| {processes} | {found['kills']} ({hits}) | {counts} | {stages(found)} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
