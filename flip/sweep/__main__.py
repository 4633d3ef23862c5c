"""Train a candidate of a sweep and score it on the validation set.

    python -m flip.sweep --params specs/tiny/params/clip.yaml --values '{"train.base_lr": 0.004}' --data data/tiny \\
        --seed 0 --checkpoints checkpoints/tiny/clip/base-lr-4e-3 --out sweeps/tiny/clip/base-lr-4e-3

Options that it does not know are those of flip.train, which trains. Writes score.json beside what training writes, of
which the weights are deleted: the run with what is chosen is trained by itself, with every seed.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from flip.config import sweep
from flip.config.frozen import dump, load
from flip.config.kinds import of_folder
from flip.config.schema import Params
from flip.device import pick_device
from flip.evaluate.inputs import read_model
from flip.evaluate.kinds import MEASURE
from flip.evaluate.trial import Trial
from flip.files import file_hash, write_atomic, write_json
from flip.metrics.names import PROBE
from flip.metrics.scoring import number
from flip.testsets.reader import revision, set_folder
from flip.train import __main__ as training
from flip.train.process_group import RANK, env_int

# A rate at which training diverges is a bad candidate, and no fault: such steps are left out.
DIVERGES = {"train.skip_nonfinite": 10**6}


def score(params: Params, data: Path, weights: Path) -> dict:
    """Measure weights on the validation set: score in percent, and what it was measured on."""
    metric = sweep.metric(params)
    device = pick_device()
    model, tokenize = read_model(params, data, weights, device)
    trial = Trial(model, tokenize, data, metric.set, device, metric.task == PROBE)
    outcomes = MEASURE[of_folder(set_folder(params, data, metric.set)).name](trial)
    values = outcomes[str(metric).removeprefix(metric.set)]
    found = revision(params, data, metric.set)
    return {"metric": str(metric), "score": number(trial.measure, values), "images": found["samples"]}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--values", required=True, type=json.loads, help="JSON: what replaces some, by dotted keys")
    parser.add_argument("--data", type=Path, required=True, help="the scale's folder")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for score.json, log.csv, training.json")
    options, others = parser.parse_known_args(argv)
    try:
        params = sweep.with_values(load(options.params), options.values | DIVERGES, str(options.params))
        path = options.out / "candidate.yaml"
        write_atomic(path, dump(params))
        words = ["--params", path, "--data", options.data, "--seed", options.seed, "--out", options.out, *others]
        training.main(list(map(str, words)))
        if env_int(RANK, 0) == 0:
            weights = options.out / "weights.safetensors"
            found = score(params, options.data, weights)
            about = {"values": options.values, "seed": options.seed, "weights": file_hash(weights)}
            write_json(options.out / "score.json", found | about)
            weights.unlink()
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
