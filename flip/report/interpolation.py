"""Measure a tuned variant mixed with the weights that it began with, from none of the tuning to all of it.

The weights between the two often keep what the first ones could do, and gain most of what tuning brings (WiSE-FT,
Wortsman et al. 2022, arXiv 2109.01903). Which mixture is best is a choice by these numbers: make it on a set that no
result is then reported on.
"""

import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from flip.config.frozen import dump
from flip.config.schema import TOKENIZER, WEIGHTS, Params
from flip.data.tokenizer import tokenizer_path
from flip.device import pick_device
from flip.evaluate.__main__ import evaluate
from flip.evaluate.inputs import new_model
from flip.files import atomic_folder, file_hash, read_json, write_atomic, write_json
from flip.metrics.names import Metric
from flip.metrics.scoring import number
from flip.model.weights import read_weights, save_weights
from flip.provenance.trained import Trained, find
from flip.report.tradeoff import METADATA, SETTINGS, STYLES
from flip.testsets.reader import places, revision

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
PANELS = 4  # in a row of the figure


def mixed(first: dict[str, Tensor], last: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return (1 - share) of the first weights plus share of the last, by the names of the last (WiSE-FT, equation 1).

    A share of 0 gives the first and of 1 the last, to the bit.

    Raises:
        ValueError: a weight is not in the first, or has another shape there.
    """
    for name, tensor in last.items():
        if name not in first or first[name].shape != tensor.shape:
            raise ValueError(f"'{name}' {list(tensor.shape)} is not in the weights that tuning began with")
    return {name: torch.lerp(first[name], tensor, share) for name, tensor in last.items()}


class Interpolation:
    """Hold a tuned variant, the weights that it began with, and the metrics of mixtures of the two by share."""

    def __init__(self, trained: Trained, out: Path):
        self.trained, self.params, self.out = trained, trained.params, out
        if not self.params.start:
            raise ValueError(f"'{trained.variant}' has no start in params.yaml: there are no weights to average with")
        if not self.params.aligned:
            raise ValueError(f"'{trained.variant}' has {self.params.unaligned}: nothing is measured without training")
        self.first = read_weights(start_weights(trained))
        self.last = read_weights(trained.weights)
        self.made_from = {"first": file_hash(start_weights(trained)), "last": file_hash(trained.weights)}
        self.points = self._known()

    @property
    def file(self) -> Path:
        return self.out / "interpolation.json"

    def _known(self) -> list[dict[str, float]]:
        """Return the points of an earlier call, if they are of these weights."""
        found = read_json(self.file) if self.file.exists() else {}
        return found.get("points", []) if found.get("made_from") == self.made_from else []

    def measured(self, share: float) -> dict[str, float]:
        """Return the metrics of a mixture, in percent; probes are left out, which train something of their own."""
        device = pick_device()
        evaluated = self.params.evaluate.model_copy(update={"probe": []})
        params = self.params.model_copy(update={"evaluate": evaluated})
        model, tokenize = new_model(params, self.trained.data, device)
        model.load_state_dict(mixed(self.first, self.last, share))
        outcomes = evaluate(model, tokenize, self.trained.data, self.trained.seed, device)
        sets = {name: revision(params, self.trained.data, name) for name in places(params)}
        measures = {name: Metric.parse(name, sets).measure(sets) for name in outcomes}
        return {name: number(measures[name], values) for name, values in outcomes.items()}

    def measure(self, shares: Iterable[float]) -> None:
        """Measure mixtures that are not known yet; each is written as soon as it is there, with the figure."""
        for share in shares:
            if all(point["share"] != share for point in self.points):
                self.points = sorted([*self.points, {"share": share} | self.measured(share)], key=lambda x: x["share"])
                write_json(self.file, {"made_from": self.made_from, "points": self.points})
        for kind in METADATA:
            write_atomic(self.file.with_suffix(f".{kind}"), self.draw(kind))

    def keep(self, share: float, folder: Path) -> None:
        """Write a mixture to a new folder, as `flip.load`, `flip export` and `flip.evaluate` take it."""
        with atomic_folder(folder) as made:
            save_weights(made / WEIGHTS, mixed(self.first, self.last, share))
            write_atomic(made / "params.yaml", dump(self.params))
            tokenizer = tokenizer_path(self.trained.data, self.params.captions)
            write_atomic(made / TOKENIZER, tokenizer.read_bytes())

    def as_text(self) -> str:
        """Return a line per metric and a column per share, and the files."""
        frame = pd.DataFrame(self.points).set_index("share").T.rename_axis("percent")
        frame.columns = pd.Index([f"{share:g} tuned" for share in frame.columns])
        return f"{frame.round(1).to_string()}\n{self.file}, .svg, .png"

    def as_json(self) -> str:
        return json.dumps(self.points, indent=1)

    def draw(self, kind: str) -> bytes:
        """Draw each metric against the share as 'svg' or 'png', in a panel of its own."""
        frame = pd.DataFrame(self.points).set_index("share")
        rows = math.ceil(len(frame.columns) / PANELS)
        settings: Any = SETTINGS | {"axes.spines.right": False, "font.size": 8.5}
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=(2.1 * PANELS, 1.6 * rows), layout="constrained")
            axes = figure.subplots(rows, PANELS, squeeze=False, sharex=True).ravel()
            for one, (name, values) in zip(axes, frame.items(), strict=False):
                color, marker = STYLES[0]
                one.plot(values.index, values, color=color, marker=marker, markersize=3.5, linewidth=1.5)
                one.set_title(name)
                one.grid(alpha=0.25)
            for one in axes[len(frame.columns) :]:
                one.set_axis_off()
            figure.supxlabel("share of the tuned weights")
            figure.supylabel("percent")
            file = io.BytesIO()
            figure.savefig(file, format=kind, dpi=200, metadata=METADATA[kind])
        return file.getvalue()


def start_weights(trained: Trained) -> Path:
    """Return the weights that a variant began with.

    Raises:
        ValueError: they do not exist.
    """
    params: Params = trained.params
    if WEIGHTS in params.start_files:
        return Path(params.start_files[WEIGHTS])
    assert params.start is not None
    return Trained(trained.scale, params.start, trained.seed).weights


def run(variant: str, scale: str | None, seed: int, shares: Iterable[float], out: Path | None = None) -> Interpolation:
    """Measure mixtures of a variant and what it began with; return them.

    Raises:
        ValueError: shares that are none, no training, or nothing to mix it with.
    """
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise ValueError(f"--shares {wrong[0]:g}: no share of the tuned weights; allowed: 0 to 1")
    trained = find(variant, scale, seed)
    found = Interpolation(trained, out or Path(trained.layout.curve(variant, seed)))
    found.measure(shares)
    return found
