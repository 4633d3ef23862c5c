"""Compute a trained model's embeddings of all training images and captions once, for trainings that learn from them.

    python -m flip.train.precompute_pairs --params specs/tiny/params/clip.yaml --data data/tiny \\
        --weights results/tiny/clip/seed-0/weights.safetensors --out data/tiny/teachers/clip/seed-0

Images are not cropped, but resized to the tower's square. Of samples with several captions, each is embedded. Several
processes share the shards, and a call that was ended resumes, as of flip.train.precompute_features.
"""

import argparse
from pathlib import Path

import numpy as np

from flip.config.schema import Params
from flip.data.feature_cache import FACTS, features_path, write_features
from flip.data.pair_embeddings import CAPTIONS, IMAGES, PARTS
from flip.data.token_cache import Tokens, words
from flip.files import file_hash, read_json, workspace, write_json
from flip.losses import build_towers
from flip.model.two_towers import TwoTowers
from flip.model.weights import load_weights
from flip.train.precompute_features import ImageEncoder, command, embed
from flip.train.process_group import ProcessGroup
from flip.train.step import build_tokens


class PairEncoder(ImageEncoder):
    """Compute image and text features of a trained model with a common space."""

    def __init__(self, model: TwoTowers, device: str):
        self.params, self.model, self.device = model.params, model, device

    def captions(self, ids: np.ndarray) -> np.ndarray:
        """Compute features [captions, width], not normalised, of token ids int64 [captions, slots], batch by batch."""
        size = self.params.evaluate.batch
        parts = (ids[first : first + size] for first in range(0, len(ids), size))
        return np.concatenate([self._encoded(self.model.encode_text, part) for part in parts])


def read_teacher(params: Params, weights: str | Path, device: str, vocabulary: int) -> TwoTowers:
    """Build a teacher with its weights.

    Raises:
        ValueError: weights of another shape, or parameters without a common space.
    """
    if params.unaligned:
        raise ValueError(f"variant '{params.variant}' can teach no similarities: {params.unaligned}")
    model = build_towers(params, vocabulary).to(device).eval()
    load_weights(weights, model, strict=False)
    return model


def ids_of(tokens: Tokens, number: int) -> np.ndarray:
    """Return the ids of all captions of a shard, int64 [captions, slots]."""
    stored = tokens(number)
    return tokens.tokenizer.arranged([words(stored, item) for item in range(len(tokens.captions(number)))])


def run(options: argparse.Namespace, params: Params, group: ProcessGroup) -> None:
    """Compute the features in the folder that belongs to these inputs, resuming there; each part's features.json, which
    says that all are complete, is written last."""
    manifest, weights = read_json(options.data / "manifest.json"), file_hash(options.weights)
    tokens = build_tokens(params, options.data, manifest, options.tokenizer)
    if group.first:
        workspace(options.out, " ".join([manifest["id"], weights, file_hash(options.spec or options.params)]))
    group.barrier()
    teacher = read_teacher(params, options.weights, group.device, tokens.tokenizer.vocabulary)
    towers = PairEncoder(teacher, group.device)
    embed(towers, options.data, manifest, group, options.out / IMAGES)
    for number in range(group.rank, len(manifest["shards"]), group.size):
        name = manifest["shards"][number]["name"]
        if not features_path(options.out / CAPTIONS, name).exists():
            write_features(options.out / CAPTIONS, name, towers.captions(ids_of(tokens, number)))
    group.barrier()
    if group.first:
        facts = {"manifest": manifest["id"], "weights": weights, "width": params.embedding}
        for part in PARTS:
            write_json(options.out / part / FACTS, facts)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    command(argv, "flip.train.precompute_pairs", __doc__.splitlines()[0], run)


if __name__ == "__main__":
    main()
