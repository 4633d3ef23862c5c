"""Score the pairs of a part, by words of all captions or by a model.

    python -m flip.curate.score --params specs/tiny/params/balance.yaml --data data/tiny --part 0000 --seed 0 \\
        --words curated/tiny/balance/seed-0/mentions/all.parquet --out curated/tiny/balance/seed-0/scores/0000.npy

Writes an array float32 [pairs of the part], in the order of its shards.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from flip.config.frozen import load
from flip.config.schema import Curation
from flip.curate import clip_score, read_curation
from flip.curate.captions import first_captions
from flip.curate.policies import by_words
from flip.data.word_table import read_counts
from flip.device import keep_memory, pick_device
from flip.evaluate.inputs import read_model
from flip.files import atomic, read_json


def score(options: argparse.Namespace, curation: Curation) -> np.ndarray:
    """Return the scores of the part's pairs, float32 [pairs].

    Raises:
        ValueError: the list of its samples is not that of its shards.
    """
    manifest = read_json(options.data / "manifest.json")
    shards = [one for one in manifest["shards"] if one["name"].startswith(f"{options.part}/")]
    expected = sum(one["samples"] for one in shards)
    if options.words:
        of = by_words(curation, read_counts(options.words), manifest["samples"], options.seed)
        found = np.fromiter((of(*one) for one in first_captions(options.samples)), np.float32)
    else:
        device = pick_device()
        params = load(options.scorer)
        model, tokenize = read_model(params, options.data, options.weights, device, options.tokenizer)
        parts = clip_score.scores(model, tokenize, device, options.data, shards)
        found = np.concatenate([np.empty(0, np.float32), *parts])
    if len(found) != expected:
        raise ValueError(f"part {options.part}: {len(found)} pairs are scored of {expected}; run its stages again")
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.curate.score", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, tokenizer.json, shards")
    parser.add_argument("--part", required=True)
    parser.add_argument("--seed", type=int, required=True, help="of what balance draws")
    parser.add_argument("--samples", help="list of the part's samples (parquet)")
    parser.add_argument("--words", help="counts of the words, or entries, of all captions (parquet)")
    parser.add_argument("--scorer", help="frozen parameters of the model that scores")
    parser.add_argument("--weights", help="its weights (safetensors)")
    parser.add_argument("--tokenizer", help="its tokenizer (default: the data's)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", required=True, help="scores (npy)")
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        found = score(options, read_curation(options.params))
        with atomic(options.out) as file:
            np.save(file, found)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
