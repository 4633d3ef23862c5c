"""Choose pairs by their scores: the threshold of all parts, and how many of each shard are kept.

    python -m flip.curate.select --params specs/tiny/params/balance.yaml --data data/tiny --seed 0 \\
        --scores curated/tiny/balance/seed-0/scores/{0000..0001}.npy --out curated/tiny/balance/seed-0/selection.json

Training reads the scores of the shards that it reads (flip.data.selection). Memory is that of one part's scores.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flip.config.schema import Curation
from flip.curate import read_curation
from flip.data.selection import SCORES, kept
from flip.files import expand, read_json, write_json

HALF = 16  # bits of a score that are counted at a time
ROUNDS = 32 // HALF


def ordered(scores: np.ndarray) -> np.ndarray:
    """Return uint32 numbers in the order of float32 scores [n]."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 is 0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32)


def as_score(number: int) -> float:
    """Undo `ordered`."""
    bits = number ^ (1 << 31) if number >> 31 else ~number & 0xFFFFFFFF
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def threshold_of(paths: Sequence[str], keep: int) -> float:
    """Return the largest score that at least `keep` pairs reach, exactly: scores are counted by their first bits, then
    those that share them by the others, and none is held longer than its part is read."""
    prefix, above = 0, 0
    for turn in range(ROUNDS):
        counts = np.zeros(1 << HALF, np.int64)
        for path in paths:
            numbers = ordered(np.load(path, mmap_mode="r"))
            shift = 32 - HALF * (turn + 1)
            mine = numbers[(numbers >> (shift + HALF)) == prefix] if turn else numbers
            counts += np.bincount((mine >> shift) & ((1 << HALF) - 1), minlength=1 << HALF)
        reached = above + counts[::-1].cumsum()[::-1]
        digit = int(np.flatnonzero(reached >= keep).max())
        above, prefix = int(reached[digit] - counts[digit]), (prefix << HALF) | digit
    return as_score(prefix)


def threshold(paths: Sequence[str], curation: Curation) -> float:
    """Return the score from which on pairs are kept; those of equal scores stay together."""
    if curation.share is None:
        return curation.threshold if curation.threshold is not None else 0.0
    pairs = sum(len(np.load(path, mmap_mode="r")) for path in paths)
    return threshold_of(paths, math.ceil(curation.share * pairs - 1e-9))


def select(manifest: dict, paths: Sequence[str], curation: Curation) -> dict:
    """Return what is kept: the threshold, a ledger row, and for each shard its pairs and those of them that are kept.

    Raises:
        ValueError: scores are of other shards.
    """
    least, shards = threshold(paths, curation), {}
    for path in paths:
        scores, first = np.load(path, mmap_mode="r"), 0
        for one in (one for one in manifest["shards"] if one["name"].startswith(f"{Path(path).stem}/")):
            mine = scores[first : first + one["samples"]]
            shards[one["name"]] = {"first": first, "pairs": one["samples"], "kept": int(kept(mine, least).sum())}
            first += one["samples"]
        if first != len(scores):
            raise ValueError(f"{path}: {len(scores)} scores of {first} pairs; delete it and run the pipeline again")
    pairs, used = (sum(one[name] for one in shards.values()) for name in ("pairs", "kept"))
    ledger = {"pairs": pairs, "used": used, "lost": {curation.policy: pairs - used}}
    return {"manifest": manifest["id"], "threshold": least, "ledger": ledger, "shards": shards}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.curate.select", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--scores", nargs="+", required=True, help="of all parts; {0000..0511} is a range")
    parser.add_argument("--out", type=Path, required=True, help=f"what is kept (JSON), beside {SCORES}/")
    options = parser.parse_args(argv)
    try:
        found = select(read_json(options.data / "manifest.json"), expand(options.scores), read_curation(options.params))
        write_json(options.out, found)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{found['ledger']['used']} of {found['ledger']['pairs']} pairs are kept")


if __name__ == "__main__":
    main()
