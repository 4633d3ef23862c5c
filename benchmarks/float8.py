"""Measure the zero-shot accuracy after training with `train.precision: float8`.

    python -m benchmarks.float8                          # a variant of `tiny`, 3 seeds: 20 minutes on one core
    python -m benchmarks.float8 --variant clip

It is compared with training in the variant's own precision, on equal pairs, crops and masks. Where the device has no
float8 products they are emulated with the same rounding: accuracy is the same, time is not (see `make bench-gpu`). A
row has error rates over the seeds.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness import peer
from benchmarks.pixels import compare, errors, samples, write_data
from benchmarks.table import Row, against
from flip.config.schema import Params


def rows(params: Params, folder: Path, images: int, sets: list[str], seeds: list[int]) -> Iterator[Row]:
    """Yield a row per test set."""
    peer("torchao.float8")
    data = write_data(params, folder, samples(params, images), sets)
    plain = params.train.precision
    found: dict[str, list[dict[str, float]]] = {"float8": [], plain: []}
    for seed in seeds:
        for precision, values in found.items():
            train = params.train.model_copy(update={"precision": precision})
            values.append(errors(params.model_copy(update={"train": train}), data, data, sets, seed))
    for name in sets:
        eight, other = ([one[name] for one in values] for values in found.values())
        yield against(f"{name}: error rate after training in float8", "", eight, plain, other)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    compare("float8", __doc__ or "", rows, argv)


if __name__ == "__main__":
    main()
