"""Read the results of one variant: metrics and outcomes, its training, its receipts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flip.config.resolve import Project
from flip.config.schema import Params
from flip.files import read_json
from flip.metrics.measures import ACCURACY
from flip.metrics.names import PROBE, Metric, transferred
from flip.metrics.scoring import percent
from flip.metrics.sets import TRANSFERS
from flip.provenance import receipt
from flip.provenance.layout import Records, seed_folder
from flip.provenance.specs import recipe


def existing(path: str | Path) -> Path:
    if not Path(path).exists():
        raise ValueError(f"{path}: missing; run `snakemake` with the name of its report, which makes it")
    return Path(path)


def must_be_same(what: str, identities: dict[str, str], remedy: str) -> None:
    """Raise ValueError unless all origins have one identity; `remedy` says how to fix it."""
    (first, expected), *others = identities.items()
    for origin, identity in others:
        if identity != expected:
            raise ValueError(
                f"{what}: {first} has {expected[:12]} and {origin} has {identity[:12]}; results of different {what} "
                f"do not belong in one table; `snakemake ablations` makes those that are out of date again{remedy}"
            )


@dataclass(frozen=True)
class Run:
    """Hold one variant with all its seeds; lists have one entry per seed.

    `receipts` are those of the evaluation; `trained` are the folders of what was trained to be measured
    (flip.transfer), by the tasks that a table shows.
    """

    params: Params
    metrics: list[dict]
    training: list[dict]
    logs: list[pd.DataFrame]
    receipts: list[dict]
    folders: list[Path]
    trained: dict[str, list[Path]]

    @property
    def samples(self) -> int:
        """Return the pairs seen in training, without those of the run that this one starts from."""
        return self.training[0]["samples"]

    @property
    def data(self) -> dict:
        """Return what this run was trained on, as it recorded: manifest, pairs, images."""
        return {name: self.training[0][name] for name in ("manifest", "pairs", "images")}

    @property
    def sets(self) -> dict:
        return self.metrics[0]["sets"]

    @property
    def sheets(self) -> dict[str, tuple[dict, Path]]:
        """Return for the first seed the facts about each sheet of images, and its file."""
        found = self.metrics[0]["sheets"].items()
        return {name: (facts, existing(self.folders[0] / "sheets" / f"{name}.webp")) for name, facts in found}

    def unread(self, test: str) -> bool:
        """Return whether a set's captions are in a language that the variant does not read, or it is that of a task
        that was not trained."""
        if test in TRANSFERS:
            return test not in self.trained
        return test not in self.params.evaluate.of(self.params.captions.languages)

    def check_data(self) -> None:
        """Refuse seeds that were trained, or evaluated with a tokenizer, of different data."""
        found = {}
        for folder, training, metrics in zip(self.folders, self.training, self.metrics, strict=True):
            found[f"{folder}/training.json"] = training["manifest"]
            found[f"{folder}/metrics.json"] = metrics["manifest"]
        must_be_same("training data", found, "")

    def missing(self, metric: Metric) -> str | None:
        """Return why the metric was not measured; None if it was, or if nothing explains it."""
        params = self.params
        if metric.job:
            return metric.left_out(self.metrics[0]["skipped"]) if params.has_image_tower else "no image tower"
        if self.unread(metric.set):
            return f"captions in {', '.join(params.captions.languages)} alone"
        test, task = metric.set, metric.task
        if few := self.few(test):
            return few
        able = {PROBE: params.has_image_tower, "image": params.relates, "text": params.has_text_tower}
        pairs = self.sets[test].get("pairs")
        if params.aligned and pairs and task not in pairs:
            return f"{test} has no such pairs, but {', '.join(pairs)}"
        if metric.score != ACCURACY or not able.get(task):  # no probe, or of features that it lacks
            return params.unaligned
        if test not in params.evaluate.probe:
            return f"evaluate.probe does not name {test}"
        return self.metrics[0]["skipped"].get(str(Metric(test, PROBE)))

    def few(self, test: str) -> str | None:
        """Return why a set has too few images for an interval; None if it has enough."""
        content, fewest = self.sets[test], self.params.bootstrap.fewest
        there = content.get("least", content["samples"])
        if there >= fewest:
            return None
        return f"{there} images of {test}{' in a class' if 'least' in content else ''}, fewer than {fewest}"

    def outcomes(self, metric: Metric) -> np.ndarray:
        """Return [seeds, images, ...]: what the metric's measure keeps of each (flip.metrics.scoring).

        Raises:
            ValueError: the metric was not measured, or its outcomes do not add up to it.
        """
        images, name = self.sets[metric.set]["samples"], str(metric)
        measure, rows = metric.measure(self.sets), []
        places = self.trained[metric.tasks[0]] if metric.job else self.folders
        for folder, metrics in zip(places, self.metrics, strict=True):
            with np.load(existing(folder / "outcomes.npz")) as file:
                if name not in file or name not in metrics["metrics"]:
                    why = self.missing(metric) or f"known: {', '.join(sorted(metrics['metrics']))}"
                    raise ValueError(f"{folder}: no metric '{metric}'; {why}")
                row = file[name]
            if len(row) > images:
                raise ValueError(
                    f"{folder}: '{metric}' has {len(row)} outcomes of {images} images, and does not say whose they "
                    "are: an earlier version wrote it; evaluate again"
                )
            if abs(percent(measure, row[None]) - metrics["metrics"][name]) > 0.01:
                raise ValueError(f"{folder}: outcomes.npz and metrics.json differ in '{metric}'; evaluate again")
            rows.append(row)
        return np.stack(rows)


def _add_trained(metrics: list[dict], places: list[Path]) -> None:
    """Add to the metrics of each seed those of a transfer job that was trained from its weights.

    Raises:
        ValueError: a file is missing, or the job began with other weights.
    """
    for one, place in zip(metrics, places, strict=True):
        found = read_json(existing(place / "metrics.json"))
        must_be_same("weights", {str(place): found["weights"], "metrics.json": one["weights"]}, "")
        for part in ("metrics", "sets", "skipped"):
            one[part] |= found[part]


def read_run(project: Project, folder: Path, receipts: Records, trained: Path) -> Run:
    """Read one variant; below `trained` lie the results of transfer.

    Raises:
        ValueError: a file is missing, a receipt was edited, or the weights were made with other parameters.
    """
    params, wanted = project.variants[folder.name], recipe(project, folder.name)
    names = [seed_folder(seed) for seed in params.seeds]
    for seed in params.seeds:
        path = existing(receipts.variant(folder.name, "pretrain", seed))
        if receipt.read(path)["spec"]["parameters"] != wanted:
            raise ValueError(
                f"{path}: trained with other parameters than params.yaml has for '{params.variant}'; run `snakemake "
                f"variant --config scale={params.scale} variant={params.variant}`"
            )
    folders = [folder / name for name in names]
    metrics = [read_json(existing(seed / "metrics.json")) for seed in folders]
    jobs = transferred(project).get(folder.name, {})
    places_of = {job: [trained / job / name for name in names] for job in jobs}
    for places in places_of.values():
        _add_trained(metrics, places)
    return Run(
        params=params,
        metrics=metrics,
        training=[read_json(existing(seed / "training.json")) for seed in folders],
        logs=[pd.read_csv(existing(seed / "log.csv")) for seed in folders],
        receipts=[receipt.read(existing(receipts.variant(folder.name, "evaluate", seed))) for seed in params.seeds],
        folders=folders,
        trained={task: places_of[job] for job, tasks in jobs.items() for task in tasks},
    )
