"""Train one variant with one seed: pre-training, or unmasked tuning when --start names weights.

    python -m flip.pretrain --params specs/tiny/params/flip-50.yaml --data data/tiny --seed 0 \\
        --checkpoints checkpoints/tiny/flip-50/seed-0 --out results/tiny/flip-50/seed-0
"""

import argparse
import ctypes
import shutil
import sys
from pathlib import Path

import torch

from flip.files import file_hash, read_json, workspace, write_atomic
from flip.params import dump, load
from flip.train.loop import Interrupted, pretrain

INTERRUPTED = 143  # what the shell reports of a process that SIGTERM ended


def keep_memory() -> None:
    """Tells glibc to keep freed memory: a step's activations are the same blocks each time, and giving them back to
    the kernel costs a page fault per 4 kB."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_threshold, 2**30)
    except (OSError, AttributeError):
        pass  # another C library: slower, not wrong


def pick_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, tokenizer.json, shards")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", help="weights to begin with (unmasked tuning)")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for a run in progress")
    parser.add_argument("--spec", help="file that changes with the recipe; a checkpoint of another one is thrown away")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for weights, log.csv, training.json and params.yaml"
    )
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        params, manifest = load(options.params), read_json(options.data / "manifest.json")
        inputs = [file_hash(path) for path in (options.spec, options.start) if path]
        checkpoints = workspace(options.checkpoints, " ".join([manifest["id"], *inputs]))
        write_atomic(options.out / "params.yaml", dump(params))
        pretrain(params, options.data, manifest, options.seed, pick_device(), checkpoints, options.out, options.start)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        parser.exit(INTERRUPTED)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    shutil.rmtree(options.checkpoints)


if __name__ == "__main__":
    main()
