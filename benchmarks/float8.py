"""What products of eight-bit numbers cost in accuracy: zero-shot, after training with `train.precision: float8`.

    python -m benchmarks.float8                          # a variant of `tiny`, 3 seeds: 20 minutes on one core
    python -m benchmarks.float8 --variant clip

Against training in the variant's own precision, on equal pairs, crops and masks. Where the device has no such products
they are emulated, with the same rounding: what this says of accuracy holds, of time it says nothing (`make bench-gpu`
does). A row has the shares of test pictures that are told wrongly, over the seeds.
"""

from pathlib import Path

from benchmarks.harness import peer
from benchmarks.pixels import compare, errors, samples, write_data
from benchmarks.table import against
from flip.config.schema import Params


def rows(params: Params, folder: Path, pictures: int, sets: list[str], seeds: list[int]):
    peer("torchao.float8")
    data = write_data(params, folder, samples(params, pictures), sets)
    plain = params.train.precision
    found = {"float8": [], plain: []}
    for seed in seeds:
        for precision, values in found.items():
            train = params.train.model_copy(update={"precision": precision})
            values.append(errors(params.model_copy(update={"train": train}), data, data, sets, seed))
    for name in sets:
        eight, other = ([one[name] for one in values] for values in found.values())
        yield against(f"{name}: told wrongly after training in float8", "", eight, plain, other)


def main(argv=None):
    compare("float8", __doc__, rows, argv)


if __name__ == "__main__":
    main()
