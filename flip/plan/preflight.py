"""Look at everything that training needs, before jobs wait in a queue to find it missing.

    python -m flip.plan.preflight --params specs/tiny/params.yaml --data data/tiny --results results/tiny --out ...

It takes seconds, the first time up to a minute, needs no GPU, and names all that is wrong at once.
"""

import argparse
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from flip.config.resolve import Project, read_project
from flip.config.schema import Params
from flip.config.sections.train import FLOAT8_NEEDS
from flip.data.shard import open_shard
from flip.data.tar_cache import Hold, TarCache
from flip.data.tokenizer import CaptionTokenizer
from flip.files import read_json, write_json
from flip.formats.images import displayed_size
from flip.plan.counts import Uncounted
from flip.plan.step import ADAM, FULL, memory, weights
from flip.testsets import mirror
from flip.train import loggers as board
from flip.train.work import work

LOOK_AT = 200  # pairs of the first shard


def first_pairs(data: Path, manifest: dict, hold: Hold) -> list[tuple[bytes, str]]:
    """Read images and captions at the beginning of the first shard.

    Raises:
        ValueError: it is missing, or not whole.
    """
    shard = open_shard(data / "shards", manifest["shards"][0], hold)
    return [(bytes(shard.encoded(item)), shard.caption(item)) for item in range(min(LOOK_AT, len(shard)))]


def is_image(encoded: bytes) -> bool:
    try:
        displayed_size(encoded)
    except ValueError:
        return False
    return True


def pair_faults(data: Path, manifest: dict, params: Params) -> Iterator[str]:
    """Find images that cannot be decoded, captions without a word."""
    name, pairs = manifest["shards"][0]["name"], first_pairs(data, manifest, TarCache(params.source.cache).hold)
    images = sum(is_image(encoded) for encoded, _ in pairs)
    if images < 0.9 * len(pairs):
        yield f"{name}: {images} of the first {len(pairs)} images can be decoded; make the shards again"
    tokenizer = CaptionTokenizer(data / "tokenizer.json", params.model.tokens, params.captions)
    words = (tokenizer([text for _, text in pairs]) >= 0).any(axis=1)
    if words.sum() < 0.5 * len(pairs):
        yield (
            f"{name}: {words.sum()} of the first {len(pairs)} captions have a word; look at source.caption_column of "
            "params.yaml, and at the tokenizer"
        )


def batch_faults(variants: dict[str, Params], samples: int) -> Iterator[str]:
    for name, params in variants.items():
        batch, pairs = params.train.global_batch, params.train.pairs(samples)
        for kind, share in params.flava.mix.shares.items():
            if batch > (there := round(share * pairs)):
                yield f"variant '{name}': a batch of {batch} is larger than the data ({there} {kind})"


def disk_needed(variants: dict[str, Params], samples: int) -> int:
    """Return the bytes of all weights, of the checkpoints of the largest run with the one being written, and of what
    locked image towers give for so many images, and teachers for so many pairs (as wide as what learns from them)."""
    numbers = [weights(params) for params in variants.values()]
    seeds = len(next(iter(variants.values())).seeds)
    kept = max(params.train.keep_checkpoints for params in variants.values()) + 1
    towers = {params.features: FULL * params.embedding * samples for params in variants.values() if params.features}
    taught = [params for params in variants.values() if params.embeddings]
    towers |= {f"{params.embeddings}'s pairs": 2 * FULL * params.embedding * samples for params in taught}
    largest = max(one.total + ADAM * one.trained for one in numbers)
    return seeds * (FULL * sum(one.total for one in numbers) + sum(towers.values())) + kept * FULL * largest


def disk_faults(variants: dict[str, Params], samples: int, folder: Path) -> Iterator[str]:
    needed, free = disk_needed(variants, samples), shutil.disk_usage(folder).free
    if needed > free:
        yield (
            f"{folder.absolute()}: weights, checkpoints and features need {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free; make room, or lower train.keep_checkpoints"
        )


def needed_memory(params: Params, device: str) -> float:
    """Return the bytes that a process needs for a step; 0 of one that cannot be counted."""
    job = params.resources.pretrain
    with suppress(Uncounted):
        return memory(work(params, job.nodes * job.processes), device).peak
    return 0.0


def memory_faults(variants: dict[str, Params]) -> Iterator[str]:
    """Find steps that need more than their job asks for, of main memory or, where they run on GPUs, than one of them
    has."""
    for name, params in variants.items():
        job = params.resources.pretrain
        device, key, processes = ("cuda", "gpu_memory_mb", 1) if job.gpus else ("cpu", "memory_mb", job.processes)
        limit = getattr(job, key)
        if limit is not None and (needed := processes * needed_memory(params, device) / 1e6) > limit:
            yield (
                f"variant '{name}': a step needs about {needed:.0f} MB, resources.pretrain.{key} = {limit}; raise it, "
                "or set train.micro_batch or train.checkpoint_activations (`make plan` says which)"
            )


def package_faults(variants: dict[str, Params]) -> Iterator[str]:
    for name, params in variants.items():
        if params.train.precision == "float8" and not find_spec("torchao"):
            yield f"variant '{name}': {FLOAT8_NEEDS}"


def port_faults() -> Iterator[str]:
    """Find whether processes of one machine can meet."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
            pass
    except OSError as error:
        yield f"no connection within this machine ({error}); several processes could not find each other"


def faults(project: Project, data: Path, folder: Path, names: list[str] | None = None) -> list[str]:
    """Find all that is wrong for the variants of these names, or for all, each with what to do."""
    variants, manifest = project.variants, read_json(data / "manifest.json")
    variants = {name: variants[name] for name in names or variants}
    return [
        *pair_faults(data, manifest, project.baseline),
        *batch_faults(variants, manifest["samples"]),
        *disk_faults(variants, manifest["samples"], folder),
        *memory_faults(variants),
        *package_faults(variants),
        *port_faults(),
        *mirror.set_faults(project.baseline.evaluate.sets),
        *filter(None, [board.find_problem()]),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.plan.preflight", description=__doc__.splitlines()[0])
    parser.add_argument("--params", default="params.yaml", help="all parameters (default: params.yaml)")
    parser.add_argument("--scale", help="default: the scale that --params names")
    parser.add_argument("--variants", nargs="+", help="those that are to be trained (default: all)")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, tokenizer.json, shards")
    parser.add_argument("--folder", type=Path, default=Path(), help="where results and checkpoints go (default: here)")
    parser.add_argument("--out", type=Path, help="file that says it was looked at")
    options = parser.parse_args(argv)
    try:
        project = read_project(options.params, options.scale)
        found = faults(project, options.data, options.folder, options.variants)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    if found:
        parser.exit(1, "Training would fail:\n  " + "\n  ".join(found) + "\n")
    if options.out:
        write_json(options.out, {"scale": project.scale, "variants": options.variants, "faults": found})


if __name__ == "__main__":
    main()
