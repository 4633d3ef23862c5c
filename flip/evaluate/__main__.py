"""Evaluate one variant's weights on every test set of its scale.

    python -m flip.evaluate --params specs/tiny/params/flip-50.yaml --data data/tiny \\
        --weights results/tiny/flip-50/seed-0/weights.safetensors --seed 0 --out results/tiny/flip-50/seed-0

Writes metrics.json (percent, and why a metric is not there) and outcomes.npz (per test item, for intervals).
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch

from flip.data.boxes import kind
from flip.data.tokenizer import Tokenizer
from flip.device import pick_device
from flip.evaluate import pointing, probe, retrieval, zeroshot
from flip.evaluate.encoders import Cached, Ensemble, Masked
from flip.evaluate.features import Features, compute
from flip.evaluate.sets import read_set
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.model.two_towers import TwoTowers
from flip.model.weights import load_weights
from flip.params import load
from flip.schema import Params


def set_folder(params: Params, data: Path, name: str) -> Path:
    """Where a set lies: the world's own beside the shards, a public one where params.yaml says."""
    place = params.evaluate.sets[name]
    return data / "tests" / name if place == "world" else Path(place)


def read(params: Params, data: Path, name: str, split: str = "test"):
    """Loader, class names and templates of a set's split."""
    return read_set(set_folder(params, data, name), params.model.image, params.evaluate.batch, split)


def revisions(params: Params, data: Path) -> dict[str, dict]:
    """What each set consists of, as the data's stage has found it."""
    return {name: read_json(data / "tests" / name / "revision.json") for name in params.evaluate.sets}


def skipped(params: Params, sets: dict[str, dict]) -> dict[str, str]:
    """Probes that have nothing to be fitted to, and why."""
    training = {f"{name}-probe": sets[name]["train"] for name in params.evaluate.probe}
    return {metric: split["missing"] for metric, split in training.items() if "missing" in split}


def with_text(model, tokenize, name: str, features: Features, prompts, device: str) -> dict[str, np.ndarray]:
    """Zero-shot classification by `prompts` (class names, templates); retrieval for a set without classes."""
    encoder, (classes, templates) = Cached(model), prompts
    if classes is not None:
        return {name: zeroshot.outcomes(encoder, tokenize, features.batches(), classes, templates, device)}
    scores = retrieval.outcomes(encoder, tokenize, features.batches(), device, model.params.evaluate.batch)
    return {f"{name}-{metric}": values for metric, values in scores.items()}


def masked(model, tokenize, data: Path, seed: int, device: str) -> dict[str, np.ndarray]:
    """Zero-shot classification of masked pictures."""
    loader, classes, templates = read(model.params, data, "fine")
    encoders = {"fine-masked": Masked(model, seed), "fine-ensemble": Ensemble(model, seed)}
    return {
        metric: zeroshot.outcomes(encoder, tokenize, loader, classes, templates, device)
        for metric, encoder in encoders.items()
    }


def evaluate(model: TwoTowers, tokenize, data: Path, seed: int, device: str) -> dict[str, np.ndarray]:
    """Outcomes per test item of every metric: `<set>`, `<set>-image-rk`, `fine-masked`, `fine-ensemble`, `<set>-probe`.

    A model without a space for both sides is probed, and that is all; one without an image tower has no metric.
    """
    params, found = model.params, {}
    if not params.has_image_tower:
        return found
    without = skipped(params, revisions(params, data))
    probed = [name for name in params.evaluate.probe if f"{name}-probe" not in without]
    for name in probed if not params.aligned else params.evaluate.sets:
        folder = set_folder(params, data, name)
        if kind(folder) == "pointing":
            found[name] = pointing.outcomes(model, tokenize, folder, device, params.evaluate.batch)
            continue
        loader, *prompts = read(params, data, name)
        features = compute(model, loader, device)
        if params.aligned:
            found |= with_text(model, tokenize, name, features, prompts, device)
        if name in probed:
            training = compute(model, read(params, data, name, "train")[0], device)
            found[f"{name}-probe"] = probe.outcomes(training, features)
    if params.aligned and params.masking.image:
        found |= masked(model, tokenize, data, seed, device)
    return found


def evaluate_weights(params: Params, data: Path, weights, seed: int, tokenizer=None) -> dict[str, np.ndarray]:
    """`evaluate` for the weights in a file, on the best device there is, with the data's tokenizer unless another is
    named.

    Raises:
        ValueError: weights of another model, or a test set without the layout.
    """
    device = pick_device()
    tokenizer = Tokenizer(tokenizer or data / "tokenizer.json", params.model.tokens, params.captions)
    model = TwoTowers(params, tokenizer.vocabulary).to(device).eval()
    load_weights(weights, model)
    return evaluate(model, lambda texts: torch.from_numpy(tokenizer(texts)), data, seed, device)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with tokenizer.json, manifest.json, tests")
    parser.add_argument("--weights", required=True, help="safetensors file")
    parser.add_argument("--tokenizer", help="tokenizer.json of other weights (flip.imports; default: the data's)")
    parser.add_argument("--seed", type=int, required=True, help="seed of the masks of masked inference")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and outcomes.npz")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        params = load(options.params)
        found = evaluate_weights(params, options.data, options.weights, options.seed, options.tokenizer)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    packed = io.BytesIO()
    np.savez_compressed(packed, **found)
    write_atomic(options.out / "outcomes.npz", packed.getvalue())
    sets = revisions(params, options.data)
    facts = {"metrics": {name: round(100 * float(values.mean()), 4) for name, values in found.items()}}
    facts |= {"skipped": skipped(params, sets), "sets": sets}
    facts |= {"manifest": read_json(options.data / "manifest.json")["id"], "weights": file_hash(options.weights)}
    write_json(options.out / "metrics.json", facts | {"seed": options.seed})


if __name__ == "__main__":
    main()
