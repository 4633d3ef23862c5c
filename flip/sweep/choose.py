"""Choose the best of a sweep's candidates.

python -m flip.sweep.choose --params specs/tiny/params/clip.yaml --spec specs/tiny/sweeps/clip/choose.json \\
    --scores sweeps/tiny/clip/*/score.json --out chosen/tiny/sweeps/clip.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flip.config import sweep
from flip.config.frozen import load
from flip.files import read_json, write_json


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.sweep.choose", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--spec", required=True, help="what the candidates have in common")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="score.json of every candidate")
    parser.add_argument("--out", required=True, help="JSON file")
    options = parser.parse_args(argv)
    try:
        params, found = load(options.params), [read_json(path) for path in options.scores]
        scores = [sweep.Candidate(values=one["values"], score=one["score"]) for one in found]
        choice = sweep.SweepChoice(
            values=sweep.choose(params, scores),
            metric=found[0]["metric"],
            images=found[0]["images"],
            seed=found[0]["seed"],
            recipe=sweep.recipe_hash(read_json(options.spec)["parameters"]["common"]),
            candidates=scores,
        )
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    write_json(options.out, choice.model_dump(mode="json"))


if __name__ == "__main__":
    main()
