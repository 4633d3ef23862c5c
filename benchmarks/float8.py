"""What products of eight-bit numbers cost in accuracy: zero-shot, after training with `train.precision: float8`.

    python -m benchmarks.float8                          # a variant of `tiny`, 3 seeds: 20 minutes on one core
    python -m benchmarks.float8 --variant clip

Against training in the variant's own precision, on equal pairs, crops and masks. Where the device has no such products
they are emulated, with the same rounding: what this says of accuracy holds, of time it says nothing (`make bench-gpu`
does). A row has the shares of test pictures that are told wrongly, over the seeds.
"""

import tempfile
from pathlib import Path

import torch

from benchmarks.harness import peer
from benchmarks.pixels import SETS, errors, samples, write_data
from benchmarks.table import against, arguments, attempt, publish
from flip.data.testsets import make
from flip.device import keep_memory
from flip.params import read_project
from flip.schema import Params


def rows(params: Params, folder: Path, pictures: int, sets: list[str], seeds: list[int]):
    peer("torchao.float8")
    data = write_data(params, folder, samples(params, pictures))
    for name in sets:
        make(params, name, data / "tests" / name)
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
    parser = arguments("float8", __doc__)
    parser.add_argument("--variant", default="flip-50", help="of tiny (default: flip-50)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    options = parser.parse_args(argv)
    params = read_project(scale="tiny").variants[options.variant]
    pictures, sets, seeds = params.world.pictures, SETS, options.seeds
    if options.dry:
        pictures, sets, seeds = 64, ["coarse"], [0]
        params = params.model_copy(update={"train": params.train.model_copy(update={"warmup_samples": 64})})
    torch.set_num_threads(1)
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        how = {"variant": options.variant, "pictures": pictures, "seeds": len(seeds)}
        found = attempt("told wrongly", lambda: rows(params, Path(folder), pictures, sets, seeds))
        publish("float8", found, options.results, how)


if __name__ == "__main__":
    main()
