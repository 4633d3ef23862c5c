"""Train and evaluate heads on frozen features of a variant, for captioning and visual question answering, and
fine-tune its image tower for classification.

    python -m flip.transfer --params specs/tiny/params/flip-50-short.yaml --data data/tiny \\
        --weights results/tiny/flip-50-short/seed-0/weights.safetensors --seed 0 \\
        --tasks caption vqa --out tables/tiny/transfers/flip-50-short/heads/seed-0

It writes metrics.json and outcomes.npz (a value per test image, whose mean is the metric), as flip.evaluate does.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flip.config.frozen import load
from flip.config.kinds import LEARNED
from flip.config.schema import Params
from flip.device import keep_memory, pick_device, use_threads
from flip.evaluate.inputs import read, read_model
from flip.files import file_hash, read_json, write_atomic, write_json
from flip.metrics.measures import ACCURACY
from flip.metrics.names import FINETUNED, Metric
from flip.metrics.scoring import number
from flip.metrics.sets import JAVA, TRANSFERS
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import made_folder
from flip.transfer import captioning, finetuning, java, vqa
from flip.transfer.splits import TaskSplit, read_split, revision


class Missing(Exception):
    """Report why a metric is not available, which is no error."""


def place_of(params: Params, task: str) -> str:
    """Return the place of a task's images.

    Raises:
        ValueError: the scale has no set for the task.
    """
    if (place := getattr(params.transfer, task)) is None:
        raise ValueError(f"transfer.{task} = null: the scale has no such set; give a folder, or leave {task} out")
    return place


def read_splits(model: TwoTowers, data: Path, tasks: list[str], device: str) -> dict[tuple[str, str], TaskSplit]:
    """Read the splits by task and 'train' or 'test'; features of images that tasks share are computed once."""
    places: dict[tuple[str, str], dict[str, None]] = {}
    for task, split in [(task, "test") for task in tasks] + [(LEARNED[task].taught_by, "train") for task in tasks]:
        places.setdefault((place_of(model.params, task), split), {})[task] = None
    return {
        (task, split): content
        for (place, split), some in places.items()
        for task, content in read_split(model, data, place, list(some), split, device).items()
    }


def facts_of(params: Params, data: Path, task: str, splits: dict[tuple[str, str], TaskSplit]) -> dict[str, Any]:
    """Return the facts about a task's set that tables state."""
    found = {
        split: splits[one, split].facts(revision(data, place_of(params, one), split))
        for one, split in ((task, "test"), (LEARNED[task].taught_by, "train"))
    }
    source = place_of(params, task)
    return {"set": task, "classes": 0, "source": source, "train": found["train"]} | found["test"]


def headed(
    model: TwoTowers, data: Path, tasks: list[str], more: list[str], seed: int, device: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return outcomes of heads on frozen features, with `more` scores of captions, and facts about each task's set."""
    params = model.params
    found: dict[str, np.ndarray] = {}
    splits = read_splits(model, data, tasks, device)
    if tests := {task: splits[task, "test"] for task in tasks if LEARNED[task].taught_by == "caption"}:
        found |= captioning.outcomes(splits["caption", "train"], tests, params.transfer, more, seed, device)
    if "vqa" in tasks:
        found |= vqa.outcomes(splits["vqa", "train"], splits["vqa", "test"], params.transfer, seed, device)
    return found, {task: facts_of(params, data, task, splits) for task in tasks}


def finetuned(model: TwoTowers, data: Path, name: str, seed: int, device: str) -> np.ndarray:
    """Fine-tune the image tower on a set and return the outcomes.

    Raises:
        Missing: the set has no training split.
    """
    params = model.params
    content = read_json(made_folder(params, data, name) / "revision.json")
    if why := content["train"].get("missing"):
        raise Missing(why)
    training, test = (read(params, data, name, split) for split in ("train", "test"))
    measure, tuning = params.evaluate.measure(name), params.transfer.finetuning
    return finetuning.outcomes(model, training, test, content["classes"], measure, tuning, seed, device)


def measure_of(params: Params, name: str) -> str:
    """Return the measure that aggregates a metric's outcomes: the set's for fine-tuning, else the mean."""
    metric = Metric.parse(name, (*params.evaluate.sets, *TRANSFERS))
    return params.evaluate.measure(metric.set) if metric.task == FINETUNED else ACCURACY


def transfer(
    params: Params, data: Path, weights: str | Path, seed: int, tasks: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Run tasks; return outcomes per test image by metric, and facts: each task's set, and why metrics are missing.

    The task `caption` gives `caption-cider` and `caption-bleu4`, with `caption-meteor` if `meteor` is among the tasks;
    `nocaps` gives `nocaps-...` and `nocaps-<domain>-...`; `vqa` gives `vqa` and `vqa-<kind>`; `<set>-finetuned` gives
    the metric of this name.

    Raises:
        ValueError: weights are of another model, the variant has no image tower, or a set does not have the layout.
    """
    if not params.has_image_tower:
        raise ValueError(f"variant '{params.variant}' has no image tower, so no features that heads could learn from")
    device = pick_device()
    model, _ = read_model(params, data, weights, device)
    skipped = {score: why for score in JAVA if score in tasks and (why := java.missing(score))}
    more = [score for score in JAVA if score in tasks and score not in skipped]
    found, sets = headed(model, data, [task for task in TRANSFERS if task in tasks], more, seed, device)
    for task in (task for task in tasks if task not in (*TRANSFERS, *JAVA)):
        try:
            found[task] = finetuned(model, data, Metric.parse(task, params.evaluate.sets).set, seed, device)
        except Missing as why:
            skipped[task] = str(why)
    return found, {"sets": sets, "skipped": skipped}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tasks of the command line and write metrics and outcomes."""
    parser = argparse.ArgumentParser(prog="python -m flip.transfer", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with tokenizer.json, manifest.json, tests")
    parser.add_argument("--weights", required=True, help="safetensors file")
    parser.add_argument("--seed", type=int, required=True, help="seed of the heads and of their batches")
    parser.add_argument(
        "--tasks", nargs="+", required=True, help="caption, nocaps, vqa; meteor and spice of captions; <set>-finetuned"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and outcomes.npz")
    options = parser.parse_args(argv)
    use_threads(options.threads)
    keep_memory()
    try:
        params = load(options.params)
        found, evidence = transfer(params, options.data, options.weights, options.seed, options.tasks)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    packed = io.BytesIO()
    np.savez_compressed(packed, **found)  # type: ignore[arg-type]
    write_atomic(options.out / "outcomes.npz", packed.getvalue())
    facts = {"metrics": {name: number(measure_of(params, name), values) for name, values in found.items()}}
    facts |= evidence | {"weights": file_hash(options.weights), "seed": options.seed}
    write_json(options.out / "metrics.json", facts | {"manifest": read_json(options.data / "manifest.json")["id"]})


if __name__ == "__main__":
    main()
