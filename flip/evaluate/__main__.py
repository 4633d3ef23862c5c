"""Evaluate one variant's weights on every test set of its scale.

    python -m flip.evaluate --params specs/tiny/params/flip-50.yaml --data data/tiny \\
        --weights results/tiny/flip-50/seed-0/weights.safetensors --seed 0 --out results/tiny/flip-50/seed-0

Writes metrics.json (percent, and why a metric is not there), outcomes.npz (per test item, for intervals) and, into
sheets/, sheets of where the model looks and what it draws.
"""

import argparse
import io
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from flip.config.frozen import load
from flip.config.kinds import of_folder
from flip.config.schema import Params
from flip.device import keep_memory, pick_device, use_threads
from flip.evaluate import zeroshot
from flip.evaluate.encoders import Ensemble, Full, Masked, Tokenize
from flip.evaluate.inputs import read, read_model
from flip.evaluate.kinds import MEASURE
from flip.evaluate.sheets import sheets, write_sheets
from flip.evaluate.trial import Trial
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.metrics.names import ENSEMBLE, FULL, MASKED, PROBE, Metric
from flip.metrics.scoring import number
from flip.model.two_towers import TwoTowers
from flip.testsets import mirror
from flip.testsets.reader import places, prompts, revision, set_folder


def revisions(params: Params, data: Path) -> dict[str, dict]:
    """Return what each set consists of, as the data's stage has recorded it.

    Raises:
        ValueError: a public set's mirror, or a set of one's own, has changed.
    """
    mirror.require(params.evaluate.sets)
    return {name: revision(params, data, name) for name in places(params)}


def skipped(params: Params, sets: dict[str, dict]) -> dict[str, str]:
    """Return the probes without a training split, and why."""
    training = {str(Metric(name, PROBE)): sets[name]["train"] for name in params.evaluate.probe}
    return {metric: split["missing"] for metric, split in training.items() if "missing" in split}


def otherwise(model: TwoTowers, seed: int) -> dict[str, Full]:
    """Return other ways to encode images than whole and as large as in training, by the task of their metrics."""
    params, found = model.params, dict[str, Full]()
    if params.masking.image:
        found |= {MASKED: Masked(model, seed), ENSEMBLE: Ensemble(model, seed)}
    return found | ({FULL: Full(at_full_size(model))} if params.model.full_image else {})


def at_full_size(model: TwoTowers) -> TwoTowers:
    """Return a copy of a model that was trained on smaller images, for those of full size."""
    found, size = deepcopy(model), model.params.model
    found.params = model.params.model_copy(update={"model": size.model_copy(update={"image": size.full_image})})
    assert found.vision is not None
    found.vision.resize(found.params.model.grid)
    return found


def classified(encoder: Full, task: str, tokenize: Tokenize, data: Path, device: str) -> dict[str, np.ndarray]:
    """Return outcomes [images] of the primary set's images, encoded otherwise: zero-shot classification."""
    params = encoder.model.params
    name = params.evaluate.primary_set
    loader, measure = read(params, data, name), params.evaluate.measure(name)
    classes, templates = prompts(set_folder(params, data, name))
    assert classes is not None
    assert templates is not None
    found = zeroshot.outcomes(encoder, tokenize, loader, classes, templates, device, measure)
    return {str(Metric(name, task)): found}


def evaluate(model: TwoTowers, tokenize: Tokenize, data: Path, seed: int, device: str) -> dict[str, np.ndarray]:
    """Return outcomes [items, ...] of every metric: of each set, what its kind measures, and of the primary one
    `<set>-masked` and `<set>-ensemble`, or `<set>-full`.

    A model without a space for both sides is probed, and that is all; one without an image tower on its words.
    """
    params = model.params
    found: dict[str, np.ndarray] = {}
    without = skipped(params, revisions(params, data))
    for name in places(params):
        probed = name in params.evaluate.probe and str(Metric(name, PROBE)) not in without
        trial = Trial(model, tokenize, data, name, device, probed)
        outcomes = MEASURE[of_folder(trial.folder).name](trial)
        found |= {name + ending: values for ending, values in outcomes.items()}
    for task, encoder in otherwise(model, seed).items() if params.aligned else ():
        found |= classified(encoder, task, tokenize, data, device)
    return found


def evaluate_weights(params: Params, data: Path, weights: str | Path, seed: int) -> dict[str, np.ndarray]:
    """Run `evaluate` for the weights in a file, on the best available device: outcomes [items, ...] by metric.

    Raises:
        ValueError: weights of another model, or a test set without the layout.
    """
    device = pick_device()
    return evaluate(*read_model(params, data, weights, device), data, seed, device)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with tokenizer.json, manifest.json, tests")
    parser.add_argument("--weights", required=True, help="safetensors file")
    parser.add_argument("--tokenizer", help="tokenizer.json of other weights, as of an import (default: the data's)")
    parser.add_argument("--seed", type=int, required=True, help="seed of the masks of masked inference")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json, outcomes.npz and sheets/")
    options = parser.parse_args(argv)
    use_threads(options.threads)
    keep_memory()
    try:
        params, device = load(options.params), pick_device()
        model, tokenize = read_model(params, options.data, options.weights, device, options.tokenizer)
        found = evaluate(model, tokenize, options.data, options.seed, device)
        shown = sheets(model, tokenize, options.data, options.seed, device)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    packed = io.BytesIO()
    np.savez_compressed(packed, **found)  # type: ignore[arg-type]  # its stub thinks of `allow_pickle`
    write_atomic(options.out / "outcomes.npz", packed.getvalue())
    sets = revisions(params, options.data)
    measures = {name: Metric.parse(name, sets).measure(sets) for name in found}
    facts: dict[str, Any] = {"metrics": {name: number(measures[name], values) for name, values in found.items()}}
    facts |= {"skipped": skipped(params, sets), "sets": sets, "sheets": write_sheets(options.out, shown)}
    facts |= {"manifest": read_json(options.data / "manifest.json")["id"], "weights": file_hash(options.weights)}
    write_json(options.out / "metrics.json", facts | {"seed": options.seed})


if __name__ == "__main__":
    main()
