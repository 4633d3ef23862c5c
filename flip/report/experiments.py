"""Show trained variants as experiments of DVC: `dvc exp show` has a row for each, and for each of its seeds.

A row is a commit below the current one that differs from it in three small files: a few parameters, the leading
metrics with costs, and the loss. An experiment (`dvc exp run`) leaves those of the variant that it changed. All of it
comes from receipts, which Git keeps: rows are written again for each commit, in a clone, too.
"""

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from flip.config.objectives import NAMES
from flip.config.origins import leaves
from flip.config.resolve import Project
from flip.config.tree import read_tree
from flip.files import write_atomic
from flip.metrics.names import SIDES
from flip.provenance.layout import RUN_LOSS, RUN_METRICS, RUN_PARAMS, Layout
from flip.provenance.receipt import SEAL
from flip.report.evaluated import HERE, REFS, Evaluated, costs, evaluated, experiments, git, means, receipts

HOOK = """#!/bin/sh
# Written by flip.report.experiments: the rows of `dvc exp show` lie below the last commit. Delete it if you want none.
{python} -m flip.report.record --rows > /dev/null 2>&1 || true
"""
AUTHOR = "flip"  # of the commits that are rows, and of no experiment
POINTS = 100  # of a curve of the loss
SHORT = {"contrastive": "nce", "reconstruction": "mae"}  # DVC's columns are as wide as their values
# The parameters that `parameters` shows, by the end of their keys.
SHOWN = ("masking.image", "masking.text", "train.batch", "train.batch_scale", "train.base_lr", "train.epochs")


class Row(NamedTuple):
    """Hold an experiment: its name, when it was evaluated, and what its files say."""

    name: str
    time: str
    parameters: dict[str, Any]
    metrics: dict[str, float]
    loss: str

    def files(self) -> dict[str, str]:
        """Return the content of its files, by path."""
        return {
            RUN_PARAMS: yaml.safe_dump(self.parameters, sort_keys=False),
            RUN_METRICS: json.dumps(self.metrics, indent=1) + "\n",
            RUN_LOSS: self.loss,
        }


def parameters(trained: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that rows show, of all that a variant was trained with."""
    train = trained["train"]
    return {
        "mask": trained["masking"]["image"],
        "text": trained["masking"]["text"],
        "batch": train["batch"] * train["batch_scale"],
        "lr": train["base_lr"],
        "epochs": round(train["epochs"] * train["epochs_scale"], 3),
        "loss": "+".join(SHORT.get(name, name) for name in NAMES if trained.get(name, {}).get("weight")),
    }


def loss_curve(scale: str, variant: str, seed: str) -> str:
    """Return a run's loss over samples (CSV), means of at most `POINTS` parts; no line where its log is not here."""
    path, lines = Path(Layout(scale).variant(variant), seed, "log.csv"), ["samples,loss"]
    if path.exists():
        with open(path) as file:
            log = np.array([(float(row["samples"]), float(row["loss"])) for row in csv.DictReader(file)])
        for part in np.array_split(log, min(POINTS, len(log))):
            samples, loss = part.mean(axis=0)
            lines.append(f"{samples:.0f},{loss:.4f}")
    return "\n".join(lines) + "\n"


def leading(project: Project) -> dict[str, str]:
    """Return the metrics that rows show, by their titles there: of the first table the leading one, and the first of
    retrieval. DVC's own columns leave room for few."""
    metrics = project.metrics(next(iter(project.tables)))
    found = {str(metrics[0]): str(metrics[0])}
    retrieved = [str(metric) for metric in metrics if metric.task in SIDES]
    return found | {name.rsplit("-", 1)[1]: name for name in retrieved[:1]}


def row(project: Project, variant: str, runs: list[Evaluated], cost: dict | None, name: str) -> Row:
    """Return the row of some runs of a variant: means over their seeds."""
    training = [run.training["facts"]["training"] for run in runs]
    measured = means([run.metrics for run in runs])
    found = {title: round(measured[name], 2) for title, name in leading(project).items() if name in measured}
    if cost:
        found["tflop"] = float(f"{cost['flops_per_sample'] * training[0]['samples'] / 1e12:.2g}")
    found["time"] = round(sum(one["seconds"] for one in training) / len(runs), 1)
    found["seeds"] = len(runs)
    said = parameters(runs[0].training["spec"]["parameters"])
    return Row(
        name, max(run.receipt["end"] for run in runs), said, found, loss_curve(project.scale, variant, runs[0].seed)
    )


def differing(some: list[Row]) -> list[Row]:
    """Return rows without the parameters, and the number of seeds, that are alike in all of them: a screen has 120
    columns."""
    first, alike = some[0] if some else None, set()
    if first and len(some) > 1:
        same = [first.parameters.items() & one.parameters.items() for one in some]
        alike = {key for key, _ in set.intersection(*same)}
        alike |= {"seeds"} if len({one.metrics["seeds"] for one in some}) == 1 else set()

    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key not in alike}

    return [one._replace(parameters=kept(one.parameters), metrics=kept(one.metrics)) for one in some]


def rows(project: Project, found: dict[str, dict]) -> Iterator[Row]:
    """Yield a row for each evaluated variant of the project, and one for each of its seeds where it has several."""
    measured, runs = costs(found), evaluated(found)
    for variant in (name for name in project.variants if name in runs):
        cost, some = measured.get(variant), runs[variant]
        yield row(project, variant, some, cost, variant)
        for run in some if len(some) > 1 else []:
            yield row(project, variant, [run], cost, f"{variant}.{run.seed.rsplit('-', 1)[1]}")


def imported(some: Iterable[Row], commit: str) -> bytes:
    """Return rows below a commit as Git imports them (git fast-import)."""
    stream = b""

    def data(text: str) -> bytes:
        return f"data {len(text.encode())}\n{text}\n".encode()

    for one in some:
        seconds = int(datetime.fromisoformat(one.time).timestamp())
        stream += f"commit {REFS}/{commit[:2]}/{commit[2:]}/{one.name}\n".encode()
        stream += f"committer {AUTHOR} <> {seconds} +0000\n".encode() + data(one.name) + f"from {commit}\n".encode()
        for path, text in one.files().items():
            stream += f"M 100644 inline {path}\n".encode() + data(text)
    return stream


def show(project: Project, state: str = HERE) -> None:
    """Write the rows of a state's results below the current commit, in place of those below earlier ones.

    Experiments of other authors stay, also where a row would have their name.

    Raises:
        ValueError: Git cannot be asked, or has no commit yet.
    """
    commit, there = git("rev-parse", "HEAD").strip(), experiments()
    below = f"{REFS}/{commit[:2]}/{commit[2:]}/"
    taken = {name.removeprefix(below) for name, (author, _) in there.items() if author != AUTHOR}
    every = differing([*rows(project, receipts(state, project.scale))])
    wanted = [one for one in every if one.name not in taken]
    subprocess.run(["git", "fast-import", "--quiet", "--force"], input=imported(wanted, commit), check=True)
    kept = {below + one.name for one in wanted}
    for name, (author, found) in there.items():
        if author == AUTHOR and name not in kept:
            git("update-ref", "-d", name, found)
    now = experiments()
    if new := {now[below + one.name][1]: one for one in wanted if now[below + one.name] != there.get(below + one.name)}:
        remember(new)
    write_atomic(Layout(project.scale).rows, commit)
    if wanted:
        keep_below_commits()


def keep_below_commits() -> None:
    """Let Git have the rows written after each commit, as `dvc exp show` looks below the last one; hooks that are there
    stay as they are."""
    hook = Path(git("rev-parse", "--git-path", "hooks/post-commit").strip())
    if not hook.exists():
        write_atomic(hook, HOOK.format(python=shlex.quote(sys.executable)))
        hook.chmod(0o755)


def remember(some: dict[str, Row]) -> None:
    """Put rows, by their commits, into DVC's memory of experiments: it would else read a hundred, for half a minute."""
    from dvc.repo import Repo  # here, as it takes a second
    from dvc.repo.experiments.serialize import SerializableExp

    with Repo(".") as repo:
        for commit, one in some.items():
            found = {
                "params": {RUN_PARAMS: {"data": one.parameters}},
                "metrics": {RUN_METRICS: {"data": one.metrics}},
                "timestamp": datetime.fromtimestamp(datetime.fromisoformat(one.time).timestamp()),
            }
            repo.experiments.cache.put(SerializableExp(commit, **found))


def changed_parameters() -> dict[str, Any]:
    """Return what differs in params.yaml from the current commit, by key, but for what rows show anyhow."""
    trees = yaml.safe_load(git("show", "HEAD:params.yaml")), read_tree("params.yaml")
    before, now = ({".".join(map(str, keys)): value for keys, value in leaves(tree)} for tree in trees)
    return {
        key: value
        for key, value in now.items()
        if key in before and before[key] != value and not key.endswith((*SHOWN, "train.epochs_scale"))
    }


def seals(runs: list[Evaluated]) -> list[str | None]:
    """Return what tells the runs of a variant from others."""
    return [one.get(SEAL) for run in runs for one in (run.training, run.receipt)]


def changed_variants(project: Project, now: dict[str, list[Evaluated]]) -> list[str]:
    """Return the variants that have been trained or evaluated again since the current commit."""
    before = {name: seals(runs) for name, runs in evaluated(receipts("HEAD", project.scale)).items()}
    return [name for name in project.variants if name in now and seals(now[name]) != before.get(name)]


def leave(project: Project) -> None:
    """Write the files of an experiment that runs here: of the variant that it changed, else of the baseline.

    Raises:
        ValueError: Git cannot be asked.
    """
    found = receipts(HERE, project.scale)
    runs, measured = evaluated(found), costs(found)
    name = next(iter(changed_variants(project, runs)), project.baseline.variant)
    if name in runs:
        own = row(project, name, runs[name], measured.get(name), name)
        one, *_ = differing([own, *rows(project, found)])
        said = {"variant": name} | one.parameters | changed_parameters()
        for path, text in one._replace(parameters=said).files().items():
            write_atomic(path, text)


def is_experiment() -> bool:
    """Return whether this is run by `dvc exp run`."""
    return "DVC_EXP_NAME" in os.environ
