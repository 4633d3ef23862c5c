"""Compute the image features of all training images once, for trainings whose image tower is locked.

    python -m flip.train.precompute_features --params specs/tiny/params/clip.yaml --data data/tiny \\
        --weights results/tiny/clip/seed-0/weights.safetensors --out features/tiny/clip/seed-0

Images are not cropped, but resized to the tower's square (LiT: resized, not augmented). Several processes
(flip/train/launch.py) share the shards; each shard's file appears when it is complete, so a call that was ended resumes
with those that are missing. Features are stored in the precision that the tower computes with: float32, or float16
where that is bfloat16.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Params
from flip.data.crops import decode_crops
from flip.data.feature_cache import FACTS, features_path, write_features
from flip.data.prefetch import prefetch
from flip.data.shard import Shard, open_shard
from flip.data.tar_cache import TarCache
from flip.device import keep_memory
from flip.files import file_hash, read_json, workspace, write_json
from flip.losses import build_towers
from flip.model.transformer import full_precision
from flip.model.weights import load_weights
from flip.train.guards import INTERRUPTED, Interrupted, stoppable
from flip.train.process_group import ProcessGroup, start, stop

WAIT = 24 * 60  # minutes that processes may wait for the one with the most work


class ImageEncoder:
    """Compute image features with the image side of a trained model.

    Raises:
        ValueError: weights of another shape.
    """

    def __init__(self, params: Params, weights: str | Path, device: str):
        self.params, self.device = params, device
        self.model = build_towers(params, vocabulary=1).to(device).eval()  # the text tower stays as it comes: untrained
        load_weights(weights, self.model.image_tower, strict=False)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Compute features [images, width], not normalised, of uint8 images [images, side, side, 3]."""
        return self._encoded(self.model.encode_image, images)

    @torch.inference_mode()
    def _encoded(self, encode: Callable[[Tensor], Tensor], inputs: np.ndarray) -> np.ndarray:
        """Return features as they are stored: in float16 where the model computes in bfloat16, else in float32."""
        half = self.params.train.autocast == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            features = encode(torch.from_numpy(inputs).to(self.device))
        return full_precision(features).cpu().numpy().astype(np.float16 if half else np.float32)


def pixels(shard: Shard, items: range, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode and resize images without cropping: uint8 [items, side, side, 3]; and which could be decoded: bool
    [items]."""
    images, decoded = np.zeros((len(items), side, side, 3), np.uint8), np.zeros(len(items), bool)
    for row, item in enumerate(items):
        decoded[row] = decode_crops(shard.encoded(item), lambda height, width: [(0, 0, height, width)], [images[row]])
    return images, decoded


def embed_shard(tower: ImageEncoder, shard: Shard) -> np.ndarray:
    """Compute features [samples, width] of a shard's images; nan where one cannot be decoded."""
    size, side = tower.params.evaluate.batch, tower.params.model.image
    parts = [range(first, min(first + size, len(shard))) for first in range(0, len(shard), size)]
    rows = []
    for images, decoded in prefetch(lambda items: pixels(shard, items, side), parts, tower.params.train.workers):
        rows.append(tower(images))
        rows[-1][~decoded] = np.nan
    return np.concatenate(rows)


def embed(tower: ImageEncoder, data: Path, manifest: dict, group: ProcessGroup, out: Path) -> None:
    """Write the features of this process's share of the shards that are missing.

    Raises:
        Interrupted: it was asked to stop; the next call resumes from there.
        ValueError: a shard is missing or truncated.
    """
    own, hold = manifest["shards"][group.rank :: group.size], TarCache(tower.params.source.cache).hold
    total, interval = sum(shard["samples"] for shard in own), 0.5 if sys.stderr.isatty() else 30
    progress = tqdm(total=total, desc="embed", unit="image", mininterval=interval, disable=not group.first)
    with stoppable() as asked, progress as bar:
        for shard in own:
            if not features_path(out, shard["name"]).exists():
                write_features(out, shard["name"], embed_shard(tower, open_shard(data / "shards", shard, hold)))
            bar.update(shard["samples"])
            if asked:
                raise Interrupted(f"stopped after {bar.n} images; start again to resume")


def run(options: argparse.Namespace, params: Params, group: ProcessGroup) -> None:
    """Compute the features in the folder that belongs to these inputs, resuming there; features.json, which says that
    all are complete, is written last."""
    manifest, weights = read_json(options.data / "manifest.json"), file_hash(options.weights)
    made_from = [manifest["id"], weights, file_hash(options.spec or options.params)]
    if group.first:
        workspace(options.out, " ".join(made_from))
    group.barrier()
    tower = ImageEncoder(params, options.weights, group.device)
    embed(tower, options.data, manifest, group, options.out)
    group.barrier()
    if group.first:
        facts = {"manifest": manifest["id"], "weights": weights, "samples": manifest["samples"]}
        write_json(options.out / FACTS, facts | {"width": params.embedding, "shards": len(manifest["shards"])})


def command(argv: list[str] | None, name: str, about: str, work: Callable) -> None:
    """Run `work(options, params, group)` as a command, which says what it is about."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about)
    parser.add_argument("--params", required=True, help="frozen parameters of a variant with these towers")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json and shards")
    parser.add_argument("--weights", required=True, help="safetensors file with the towers' weights")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of these weights (default: the data's)")
    parser.add_argument("--spec", help="file that changes with the recipe (default: --params); features of others go")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for an array per shard and features.json")
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        params, group = load(options.params), start(WAIT)
        work(options, params, group)
        stop(group)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        parser.exit(INTERRUPTED)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    command(argv, "flip.train.precompute_features", __doc__.splitlines()[0], run)


if __name__ == "__main__":
    main()
