"""Measure the overhead of the pipeline: dry run, no-op, start of each job, intervals, tables.

    python -m benchmarks.pipeline                     # a workflow of 12 variants: about ten minutes
    python -m benchmarks.pipeline --variants 40

Rules, receipts and parameters are the real ones, in a folder of their own, with stages that write a few bytes (as in
benchmarks.versioning). A dry run and a no-op are compared with Snakemake's own with one rule, the start of a stage with
an import of torch alone, and intervals with scipy's, which must agree. Seconds are CPU time.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Form, called, measure, peer, same
from benchmarks.table import Row, against, alone, arguments, attempt, publish
from benchmarks.versioning import ROOT, call, environment, project
from flip.config.resolve import read_project
from flip.files import write_json
from flip.provenance.sources import source_hash
from flip.report import tables
from flip.report.intervals import estimates
from flip.report.results import read_results
from tests.results_world import write_world

SHARDS = 20
EMPTY = "rule nothing:\n    output: 'nothing'\n    shell: 'touch {output}'\n"
QUIET = ["--cores", "all", "--quiet", "all"]
LIGHT = ["download.part", "data.tokenizer", "plan.preflight", "report.tables"]
HEAVY = ["train", "evaluate", "transfer"]  # these need torch
ITEMS, COLUMNS = 1500, 24  # test images; rows of the tables times their metrics
CONFIDENCE = 0.95


def build_command(folder: str, *words: str) -> Callable[[], object]:
    """Return a function that runs a command, whose CPU time is that of a child process."""
    return lambda: subprocess.run(words, cwd=folder, env=environment(), capture_output=True, check=True)


def command(folder: Path, *words: str) -> Form:
    """Return the form of a command."""
    return Form(build_command, (str(folder), *words), clock="children")


def against_empty(title: str, ours: Path, empty: Path, options: argparse.Namespace, *words: str) -> Row:
    """Return the row of a call of Snakemake, against that in a workflow of one rule."""
    forms = {name: command(place, "snakemake", *words, *QUIET) for name, place in (("flip", ours), ("theirs", empty))}
    found = measure(forms, options.rounds)
    who = f"{called('snakemake')}, one rule"
    return against(title, "s", found["flip"].seconds, who, found["theirs"].seconds, at_most=2.5)


def workflow(base: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield rows of a dry run before anything is made, and of a call after."""
    ours, empty = base / "ours", base / "empty"
    ours.mkdir()
    empty.mkdir()
    project(ours, options.variants, SHARDS)
    (empty / "Snakefile").write_text(EMPTY)
    yield against_empty(f"dry run, {options.variants} variants to make", ours, empty, options, "-n")
    if options.dry:  # to make everything takes a minute
        return
    for folder in (ours, empty):
        call(folder, "snakemake", *QUIET)
    yield against_empty(f"no-op, {options.variants} variants made", ours, empty, options)


def starts(base: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield rows of what precedes the work of a job: its receipt, and the imports of its stage."""
    write_json(base / "spec.json", {"module": "flip.evaluate", "code": source_hash("flip.evaluate")})
    (base / "made").touch()
    python = shlex.quote(sys.executable)
    around = f"{python} -m flip.provenance.receipt --out out --spec spec.json --outputs made -- true"
    receipt = f"rm -f out; exec {around}"
    words = {"receipt": ["bash", "-c", receipt], "torch": [sys.executable, "-c", "import torch"]}
    words |= {
        name: [sys.executable, "-m", f"flip.{name}", "--help"] for some in options.stages.values() for name in some
    }
    found = measure({name: command(base, *one) for name, one in words.items()}, options.rounds)
    yield alone("a job's receipt, around a command that does nothing", "s", found["receipt"].seconds)
    for name in options.stages["light"]:
        yield alone(f"start of flip.{name}", "s", found[name].seconds)
    for name in options.stages["heavy"]:
        seconds = found[name].seconds
        yield against(f"start of flip.{name}", "s", seconds, f"import of {called('torch')}", found["torch"].seconds)


def build_intervals(which: str, resamples: int) -> Callable[[], np.ndarray]:
    """Return a function that computes the ends of intervals in percent [columns, 2]."""
    rng = np.random.default_rng(0)
    outcomes = (rng.random((COLUMNS, ITEMS)) < np.linspace(0.2, 0.8, COLUMNS)[:, None]).astype(np.float32)
    stats = peer("scipy.stats")

    def ours() -> np.ndarray:
        found = estimates({(str(number), "fine"): one[None] for number, one in enumerate(outcomes)}, "fine", resamples)
        return np.array([one.interval(CONFIDENCE) for one in found.values()])

    def scipys() -> np.ndarray:
        settings = {"method": "percentile", "n_resamples": resamples, "batch": 50, "confidence_level": CONFIDENCE}
        found = stats.bootstrap((100 * outcomes,), np.mean, axis=1, rng=np.random.default_rng(1), **settings)
        return np.stack(found.confidence_interval, axis=1)

    return ours if which == "flip" else scipys


def intervals(options: argparse.Namespace) -> Iterator[Row]:
    """Yield rows of time and memory of the intervals of some tables."""
    title, who = f"{COLUMNS} intervals, {options.resamples:,} resamples of {ITEMS:,} images", called("scipy")
    ours, theirs = (build_intervals(side, options.resamples)() for side in ("flip", "theirs"))
    note = f"ends equal to {same(title, ours, theirs, 0.05 if options.dry else 0.01):.0e}, as resamples differ"
    found = measure(
        {side: Form(build_intervals, (side, options.resamples)) for side in ("flip", "theirs")}, options.rounds
    )
    one, other = found["flip"], found["theirs"]
    yield against(f"{title}: time", "s", one.seconds, who, other.seconds, note=note)
    yield against(f"{title}: memory", "B", [max(one.rise, 1)], who, [max(other.rise, 1)])


def build_tables(folder: str) -> Callable[[], object]:
    """Return a function that writes the ablations' tables, figures and page, of synthetic results."""
    root, whole = Path(folder), read_project(ROOT / "params.yaml", "tiny").of("ablations")
    places = write_world(root, whole)
    return lambda: tables.write(read_results(whole, *places), root / "tables")


def written(base: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the row of writing tables."""
    found = measure({"flip": Form(build_tables, (str(base / "world"),))}, options.rounds)
    yield alone("tables, figures and page of the ablations", "s", found["flip"].seconds)


def rows(base: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all comparisons."""
    yield from attempt("intervals", lambda: intervals(options))
    yield from attempt("tables", lambda: written(base, options))
    yield from attempt("starts", lambda: starts(base, options))
    yield from attempt("workflow", lambda: workflow(base, options))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparisons by the options of the command line."""
    parser = arguments("pipeline", __doc__ or "")
    parser.add_argument("--variants", type=int, default=12, help="of the workflow (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the intervals (default: %(default)s)")
    options = parser.parse_args(argv)
    options.stages = {"light": LIGHT, "heavy": HEAVY}
    if options.dry:
        options.variants, options.resamples, options.rounds = 1, 500, 1
        options.stages = {name: some[:1] for name, some in options.stages.items()}
    with tempfile.TemporaryDirectory() as base:
        how = {"rounds": options.rounds, "threads": 1}
        publish("pipeline", rows(Path(base), options), options.results, how)


if __name__ == "__main__":
    main()
