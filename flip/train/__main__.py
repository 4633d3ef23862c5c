"""Train one variant with one seed: pre-training, or unmasked tuning when --start names weights.

    python -m flip.train --params specs/tiny/params/flip-50.yaml --data data/tiny --seed 0 \\
        --checkpoints checkpoints/tiny/flip-50/seed-0 --out results/tiny/flip-50/seed-0
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

from flip.config.frozen import dump, load
from flip.config.schema import Params
from flip.data.feature_cache import FACTS, FeatureCache
from flip.data.pair_embeddings import IMAGES, embeddings_path
from flip.data.translations import translations_path
from flip.data.word_table import words_path
from flip.device import keep_memory
from flip.files import file_hash, read_json, workspace, write_atomic
from flip.model.codebook import codebook_path
from flip.train.guards import INTERRUPTED, Interrupted
from flip.train.loop import Begin, pretrain
from flip.train.process_group import ProcessGroup, start, stop

REMEDY = (
    "out of memory: set train.micro_batch (exact, at most a process's pairs) or train.checkpoint_activations, or ask "
    "for more with resources.pretrain; started again, training resumes from the last checkpoint"
)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.train", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, tokenizer.json, shards")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", help="weights to begin with (unmasked tuning)")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of these weights (default: the data's)")
    parser.add_argument("--image-tower", help="weights whose image tower it begins with (params: image_tower.weights)")
    parser.add_argument("--text-tower", help="weights whose text tower it begins with (params: text_tower.weights)")
    parser.add_argument(
        "--features", type=Path, help="folder with what a locked image tower gives (flip.train.precompute_features)"
    )
    parser.add_argument("--selection", type=Path, help="which pairs are trained on (flip.curate; params: curation)")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for a run in progress")
    parser.add_argument(
        "--spec", help="file that changes with the recipe (default: --params); a checkpoint of another is thrown away"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for weights, log.csv, training.json and params.yaml"
    )
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        params = load(options.params)
        group = start(params.train.stall_minutes)
        train(options, params, group)
        stop(group)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        parser.exit(INTERRUPTED)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        parser.exit(1, f"{error}\n{REMEDY}\n")


def out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out: torch has an error class for a GPU's memory alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def features_of(options: argparse.Namespace, params: Params, manifest: dict) -> FeatureCache | None:
    """Open the cached features of a locked image tower, or return None where none are given.

    Raises:
        ValueError: options that do not fit the parameters, or each other.
    """
    tower = params.image_tower
    for side, file in (("image", options.image_tower), ("text", options.text_tower)):
        weights = getattr(params, f"{side}_tower").weights
        if bool(weights) != bool(file):
            raise ValueError(
                f"--{side}-tower {file}: the parameters say {side}_tower.weights = {weights}; give both or none"
            )
    if options.features is None:
        return None
    if not tower.locked:
        raise ValueError(f"--features {options.features}: image_tower.lr_scale = {tower.lr_scale} trains the tower")
    return FeatureCache(options.features, manifest, file_hash(options.image_tower), params.embedding)


def train(options: argparse.Namespace, params: Params, group: ProcessGroup) -> None:
    """Train in the folder of checkpoints that belongs to these inputs, resuming there; it is deleted when the run has
    ended."""
    manifest = read_json(options.data / "manifest.json")
    if bool(params.curation) != bool(options.selection):
        raise ValueError(
            f"--selection {options.selection}: the parameters say curation = {params.curation}; give both or none"
        )
    features, codes = features_of(options, params, manifest), codebook_path(params, options.data)
    translations = translations_path(options.data, params.captions)
    towers = options.image_tower, options.text_tower
    words = words_path(options.data) if params.masking.reads_words else None
    files = options.spec or options.params, options.start, options.tokenizer, *towers, codes, translations, words
    inputs = [file_hash(path) if path else "none" for path in files]
    if taught := embeddings_path(params, options.data, options.seed):
        inputs.append(file_hash(taught / IMAGES / FACTS))
    inputs += [file_hash(options.selection)] if options.selection else []
    if group.first:
        workspace(options.checkpoints, " ".join([manifest["id"], str(options.seed), *inputs]))
        write_atomic(options.out / "params.yaml", dump(params))
    group.barrier()
    begin = Begin(
        options.start, options.tokenizer, options.image_tower, features, options.text_tower, options.selection
    )
    pretrain(params, options.data, manifest, options.seed, group, options.checkpoints, options.out, begin)
    group.barrier()
    if group.first:
        shutil.rmtree(options.checkpoints)


if __name__ == "__main__":
    main()
