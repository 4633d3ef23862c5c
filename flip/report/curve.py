"""Draw the accuracy of a training run against samples seen, also while it runs, by evaluating its checkpoints.

A training keeps its newest checkpoints only (train.keep_checkpoints; train.checkpoint_samples says how often there is
one, and neither changes a result), so points are kept from call to call. Training is not disturbed: this only reads.
"""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from flip.device import pick_device
from flip.evaluate.inputs import new_model
from flip.evaluate.kinds.classification import measure
from flip.evaluate.trial import Trial
from flip.files import read_json, write_atomic
from flip.metrics.names import PROBE, Metric
from flip.model.lora import merged
from flip.model.weights import read_weights
from flip.provenance.trained import Trained, find
from flip.report.intervals import estimates
from flip.report.tradeoff import METADATA, SETTINGS, STYLES
from flip.testsets.reader import made_folder, prompts, set_folder
from flip.train.checkpoint import load_state

LOOK = 5  # seconds between looks, with --follow


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (samples seen, file) of the checkpoints, the newest first."""
    paths = sorted(folder.glob("checkpoint-*.pt"), reverse=True)
    return [(int(path.stem.rpartition("-")[2]), path) for path in paths]


def read_state(path: Path) -> dict | None:
    """Load a checkpoint's state; None if it was replaced by a newer one meanwhile, or is damaged."""
    try:
        return load_state(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        print(f"{path}: cannot be read ({error}); left out", file=sys.stderr)
        return None


def read_csv(path: Path) -> list[dict]:
    """Read a log's rows, each number to its last bit."""
    return pd.read_csv(path, float_precision="round_trip").to_dict("records")


def of_this_run(points: list[dict], log: list[dict]) -> list[dict]:
    """Return the points whose row is in a run's log: others are of an earlier run, with other data or parameters."""
    losses = {row["samples"]: row["loss"] for row in log}
    return [point for point in points if losses.get(point["logged"]) == point["loss"]]


class Curve:
    """Hold the points of one training run: samples seen, the log's row at or before them, and a metric with its
    interval."""

    def __init__(self, trained: Trained, file: Path):
        self.trained, self.params, self.file = trained, trained.params, file
        self.set = self.params.evaluate.primary_set
        self.metric = str(Metric(self.set, "" if self.params.aligned else PROBE))
        self.points = read_csv(file) if file.exists() else []
        if not self.params.has_image_tower:
            raise ValueError(f"'{trained.variant}' has no image tower: there is no accuracy on images to follow")
        made = made_folder(self.params, trained.data, self.set) / "revision.json"
        if not made.exists():
            raise ValueError(f"{made}: not found; {trained.data_remedy}")
        if not self.params.aligned and "missing" in read_json(made).get("train", {"missing": ""}):
            raise ValueError(
                f"'{trained.variant}' has {self.params.unaligned}, and evaluate.probe does not probe {self.set}"
            )

    def evaluated(self, weights: dict) -> dict:
        """Return the metric in percent, with its bootstrap interval over test images."""
        device, params = pick_device(), self.params
        model, tokenize = new_model(params, self.trained.data, device)
        model.load_state_dict(weights)
        trial = Trial(model, tokenize, self.trained.data, self.set, device, probed=not params.aligned)
        found, key = measure(trial)[self.metric.removeprefix(self.set)], (params.variant, self.metric)
        estimate = estimates({key: found[None]}, self.set, params.bootstrap.resamples, trial.measure)[key]
        low, high = estimate.interval(params.bootstrap.confidence)
        return {self.metric: round(estimate.value, 4), "low": round(low, 4), "high": round(high, 4)}

    def known(self, samples: int) -> bool:
        return any(point["samples"] == samples for point in self.points)

    def add(self, samples: int, log: list[dict], weights: dict) -> None:
        """Return a point, for weights after so many samples and the run's log up to there."""
        row = log[-1] if log else {"samples": 0, "loss": None}
        point = {"samples": samples, "logged": row["samples"], "loss": row["loss"]}
        self.points = sorted([*self.points, point | self.evaluated(weights)], key=lambda one: one["samples"])

    def add_checkpoints(self) -> None:
        newest = None
        for samples, path in checkpoints(self.trained.checkpoints):
            if newest is not None and self.known(samples):
                continue
            state = read_state(path)
            if state and newest is None:
                newest = state["log"]
                self.points = of_this_run(self.points, newest)
            if state and not self.known(samples):
                self.add(samples, state["log"], merged(state["model"], self.params.train.lora))

    def add_end(self) -> None:
        """Return the weights at the end of training."""
        log = read_csv(self.trained.weights.with_name("log.csv"))
        samples = read_json(self.trained.folder / "training.json")["samples"]
        self.points = of_this_run(self.points, log)
        if not self.known(samples):
            self.add(samples, log, read_weights(self.trained.weights))

    def look(self) -> None:
        """Evaluate new checkpoints, and write the curve."""
        before = self.points
        (self.add_checkpoints if self.trained.checkpoints.exists() else self.add_end)()
        if self.points != before:
            self.write()

    def as_text(self) -> str:
        """Return the points as a table, and the files that they are in."""
        if not self.points:
            folder = self.trained.checkpoints
            return f"{folder}: no checkpoint yet; train.checkpoint_minutes or .checkpoint_samples says when"
        return f"{pd.DataFrame(self.points).to_string(index=False)}\n{self.file}, .svg, .png"

    def as_json(self) -> str:
        return json.dumps(self.points, indent=1)

    def write(self) -> None:
        write_atomic(self.file, pd.DataFrame(self.points).to_csv(index=False))
        for kind in METADATA:
            write_atomic(self.file.with_suffix(f".{kind}"), self.draw(kind))

    def draw(self, kind: str) -> bytes:
        """Draw the curve as 'svg' or 'png', with chance as a line."""
        folder = set_folder(self.params, self.trained.data, self.set)
        frame, (classes, _) = pd.DataFrame(self.points), prompts(folder)
        assert classes is not None
        settings: Any = SETTINGS | {"axes.spines.right": False}
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=(4.8, 3.4), layout="constrained")
            axes = figure.add_subplot()
            color, marker = STYLES[0]
            axes.fill_between(frame.samples, frame.low, frame.high, color=color, alpha=0.2, linewidth=0)
            axes.plot(frame.samples, frame[self.metric], color=color, marker=marker, linewidth=1.8)
            axes.axhline(100 / len(classes), color="0.5", linestyle="--", linewidth=1)
            axes.set(xlabel="samples seen", ylabel=f"{self.metric}, %", title=self.params.variant, ylim=(0, None))
            axes.grid(alpha=0.25)
            file = io.BytesIO()
            figure.savefig(file, format=kind, dpi=200, metadata=METADATA[kind])
        return file.getvalue()


def run(variant: str, scale: str | None, seed: int, out: Path | None, follow: bool) -> Curve:
    """Evaluate what there is of a training run, and go on until it has ended if asked to; return the curve.

    Raises:
        ValueError: no training, or nothing to measure it by.
    """
    trained = find(variant, scale, seed)
    curve, ended = Curve(trained, (out or trained.curve) / "curve.csv"), False
    while not ended:
        ended = not (follow and trained.checkpoints.exists())
        curve.look()
        if not ended:
            time.sleep(LOOK)
    return curve
