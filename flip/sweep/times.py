"""Time a variant's step and that of the variant whose training time it takes, in turns, until their ratio is precise.

python -m flip.sweep.times --params specs/tiny/params/clip.yaml specs/tiny/params/flip-50-equal-time.yaml \\
    --spec specs/tiny/times/flip-50-equal-time/step_time.json --data data/tiny \\
    --out chosen/tiny/times/flip-50-equal-time.json
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy.stats import quantile_test

from flip.config import sweep
from flip.config.equal_time import StepTime
from flip.config.frozen import load
from flip.config.schema import Params
from flip.device import device_name, keep_memory, pick_device
from flip.files import read_json, write_json
from flip.train.step_cost import in_turns, ratios, timed

# Of the ratio: half of its median's 95% interval over it. Rows of equal time are to hold within 3 %.
PRECISE = 0.01
MOST = 10  # times `cost.rounds`, on a machine where times never settle


def uncertainty(rounds: list[float]) -> float:
    """Return half of the median's 95% interval over the median, whatever rounds are distributed as; not a number for
    fewer than six."""
    interval = quantile_test(rounds, p=0.5).confidence_interval(0.95)
    return float(interval.high - interval.low) / 2 / statistics.median(rounds)


def settled(more: Callable[[], list[float]]) -> list[float]:
    """Collect rounds until their median is precise, or MOST times."""
    found: list[float] = []
    for _ in range(MOST):
        found += more()
        if uncertainty(found) <= PRECISE:
            break
    return found


def relative_rounds(reference: Params, params: Params, data: Path) -> list[float]:
    """Return the time per sample of a variant's step over that of the reference's, by round."""
    manifest, device = read_json(data / "manifest.json"), pick_device()
    steps = {name: timed(one, data, manifest, device) for name, one in (("reference", reference), ("this", params))}

    def more() -> list[float]:
        seconds = in_turns(steps, params.cost.rounds)
        return ratios(seconds["this"], seconds["reference"])

    return settled(more)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.sweep.times", description=__doc__.splitlines()[0])
    parser.add_argument("--params", nargs=2, required=True, help="frozen parameters: of the other variant, of this one")
    parser.add_argument("--spec", required=True, help="what their steps depend on")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, tokenizer.json, shards")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", required=True, help="JSON file")
    options = parser.parse_args(argv)
    keep_memory()
    torch.set_num_threads(options.threads)
    try:
        reference, params = map(load, options.params)
        found = StepTime(
            of=reference.variant,
            relative_rounds=relative_rounds(reference, params, options.data),
            device=device_name(pick_device()),
            threads=options.threads,
            recipe=sweep.recipe_hash(read_json(options.spec)["parameters"]),
        )
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    write_json(options.out, found.model_dump(mode="json"))


if __name__ == "__main__":
    main()
