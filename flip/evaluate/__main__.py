"""Evaluate one variant's weights on every test set of its scale.

    python -m flip.evaluate --params specs/tiny/params/flip-50.yaml --data data/tiny \\
        --weights results/tiny/flip-50/seed-0/weights.safetensors --seed 0 --out results/tiny/flip-50/seed-0

Writes metrics.json (percent, and why a metric is not there), outcomes.npz (per test item, for intervals) and, into
pictures/, sheets of where the model looks and what it draws.
"""

import argparse
import io
from pathlib import Path

import numpy as np

from flip.config.frozen import load
from flip.config.schema import Params
from flip.device import keep_memory, pick_device, use_threads
from flip.evaluate import composition, entailment, pointing, retrieval, zeroshot
from flip.evaluate.encoders import Cached, Ensemble, Masked
from flip.evaluate.features import Features, compute
from flip.evaluate.inputs import read, read_model
from flip.evaluate.sheets import sheets, write_sheets
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.metrics.names import measure_of
from flip.metrics.scoring import number
from flip.model.two_towers import TwoTowers
from flip.synthetic.composition import KIND as COMPOSITION
from flip.synthetic.entailment import KIND as ENTAILMENT
from flip.testsets import mirror
from flip.testsets.layout import kind
from flip.testsets.reader import places, prompts, revision, set_folder

# Kinds of sets whose tasks need the features of pictures and no pixels.
PLAIN = ("classification", "multilabel", "retrieval")


def revisions(params: Params, data: Path) -> dict[str, dict]:
    """What each set consists of, as the data's stage has found it.

    Raises:
        ValueError: a public set's mirror, or a set of one's own, has changed.
    """
    mirror.require(params.evaluate.sets)
    return {name: revision(params, data, name) for name in places(params)}


def skipped(params: Params, sets: dict[str, dict]) -> dict[str, str]:
    """Probes that have nothing to be fitted to, and why."""
    training = {f"{name}-probe": sets[name]["train"] for name in params.evaluate.probe}
    return {metric: split["missing"] for metric, split in training.items() if "missing" in split}


def with_text(model, tokenize, name: str, features: Features, folder: Path, device: str) -> dict[str, np.ndarray]:
    """Zero-shot classification by the prompts of the set in `folder`; retrieval for a set without classes."""
    encoder, (classes, templates) = Cached(model), prompts(folder)
    if classes is not None:
        measure = model.params.evaluate.measure(name)
        return {name: zeroshot.outcomes(encoder, tokenize, features.batches(), classes, templates, device, measure)}
    scores = retrieval.outcomes(encoder, tokenize, features.batches(), device)
    return {f"{name}-{metric}": values for metric, values in scores.items()}


def masked(model, tokenize, data: Path, seed: int, device: str) -> dict[str, np.ndarray]:
    """Zero-shot classification of the primary set's images, masked."""
    name = model.params.evaluate.primary_set
    loader = read(model.params, data, name)
    classes, templates = prompts(set_folder(model.params, data, name))
    encoders = {f"{name}-masked": Masked(model, seed), f"{name}-ensemble": Ensemble(model, seed)}
    measure = model.params.evaluate.measure(name)
    return {
        metric: zeroshot.outcomes(encoder, tokenize, loader, classes, templates, device, measure)
        for metric, encoder in encoders.items()
    }


def entailed(model, tokenize, data: Path, name: str, device: str) -> dict[str, np.ndarray]:
    """Statements about pictures and beside captions, told apart by probes."""
    loaders = {split: read(model.params, data, name, split) for split in ("train", "test")}
    found = entailment.outcomes(model, tokenize, set_folder(model.params, data, name), loaders, device)
    return {f"{name}-{task}": values for task, values in found.items()}


def on_pictures(model, tokenize, data: Path, name: str, probed: bool, device: str) -> dict[str, np.ndarray]:
    """What needs no more than the features of a set's pictures: zero-shot tasks, and the probe if it is `probed`."""
    params, found = model.params, {}
    features = compute(model, read(params, data, name), device)
    if params.aligned:
        found |= with_text(model, tokenize, name, features, set_folder(params, data, name), device)
    if probed:
        from flip.evaluate import probe  # here, as scikit-learn takes two seconds to import

        training = compute(model, read(params, data, name, "train"), device, ranked=False)
        found[f"{name}-probe"] = probe.outcomes(training, features, params.evaluate.measure(name))
    return found


def evaluate(model: TwoTowers, tokenize, data: Path, seed: int, device: str) -> dict[str, np.ndarray]:
    """Outcomes per test item of every metric: `<set>`, `<set>-image-rk`, `<set>-masked`, `<set>-ensemble`,
    `<set>-probe`, of statements `<set>-image` and `<set>-text`, and of pairs of captions `<set>-<kind>`.

    A model without a space for both sides is probed, and that is all; one without an image tower on its words.
    """
    params, found = model.params, {}
    without = skipped(params, revisions(params, data))
    for name in places(params):
        folder = set_folder(params, data, name)
        probed = name in params.evaluate.probe and f"{name}-probe" not in without
        if kind(folder) == ENTAILMENT and probed:
            found |= entailed(model, tokenize, data, name, device)
        elif kind(folder) == "pointing" and params.aligned:
            found[name] = pointing.outcomes(model, tokenize, folder, device, params.evaluate.batch)
        elif kind(folder) == COMPOSITION and params.aligned:
            pairs = composition.outcomes(model, tokenize, folder, device, params.evaluate.batch)
            found |= {f"{name}-{one}": values for one, values in pairs.items()}
        elif kind(folder) in PLAIN and params.has_image_tower and (params.aligned or probed):
            found |= on_pictures(model, tokenize, data, name, probed, device)
    if params.aligned and params.masking.image:
        found |= masked(model, tokenize, data, seed, device)
    return found


def evaluate_weights(params: Params, data: Path, weights, seed: int) -> dict[str, np.ndarray]:
    """`evaluate` for the weights in a file, on the best device there is.

    Raises:
        ValueError: weights of another model, or a test set without the layout.
    """
    device = pick_device()
    return evaluate(*read_model(params, data, weights, device), data, seed, device)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with tokenizer.json, manifest.json, tests")
    parser.add_argument("--weights", required=True, help="safetensors file")
    parser.add_argument(
        "--tokenizer", help="tokenizer.json of other weights (flip.export.imports; default: the data's)"
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of the masks of masked inference")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json, outcomes.npz and pictures/")
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
    np.savez_compressed(packed, **found)
    write_atomic(options.out / "outcomes.npz", packed.getvalue())
    sets = revisions(params, options.data)
    facts = {"metrics": {name: number(measure_of(name, sets), values) for name, values in found.items()}}
    facts |= {"skipped": skipped(params, sets), "sets": sets, "pictures": write_sheets(options.out, shown)}
    facts |= {"manifest": read_json(options.data / "manifest.json")["id"], "weights": file_hash(options.weights)}
    write_json(options.out / "metrics.json", facts | {"seed": options.seed})


if __name__ == "__main__":
    main()
