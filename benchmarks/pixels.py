"""Measure zero-shot accuracy after training on the loader's pixels, and on PIL's.

    python -m benchmarks.pixels                          # a variant of `tiny`, 3 seeds: half an hour on one core
    python -m benchmarks.pixels --seeds 0 1 2 3 4

Images are synthetic, with 96 to 204 pixels along the shorter side, for a model that reads 48. `PIL` decodes each at
full size and resizes its crop by bicubic interpolation with antialiasing; `whole` is the loader on the same shards,
which decodes most at half their size; `compact` is the loader on resized shards of 72 pixels (`shards.compact`). Equal
seeds have equal pairs, crops and masks. A row has error rates over the seeds.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from tqdm import trange

from benchmarks.noise_shards import COMPACT
from benchmarks.table import Row, against, arguments, attempt, publish
from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.data import loader, tokenizer
from flip.data.compact import resize_jpeg
from flip.data.shard import Shard
from flip.data.shards import write_shards
from flip.device import keep_memory
from flip.evaluate import zeroshot
from flip.evaluate.encoders import Full
from flip.evaluate.inputs import read
from flip.files import read_json, write_json
from flip.model.two_towers import TwoTowers
from flip.synthetic.testsets import make
from flip.synthetic.world import caption, jpeg
from flip.testsets.reader import prompts, set_folder
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model, count_steps

SETS = ["fine", "coarse"]
FEW, FEW_TESTED = 64, 400  # images of a dry run's data and of each of its test sets


def by_pil(encoded: bytes, boxes_of: Callable[[int, int], Any], out: list[np.ndarray]) -> bool:
    """Replace `flip.data.crops.squares` by PIL's decoding and resizing."""
    image = Image.open(BytesIO(encoded)).convert("RGB")
    for (top, left, rows, columns), square in zip(boxes_of(image.height, image.width), out, strict=True):
        box, size = (left, top, left + columns, top + rows), (len(square), len(square))
        square[:] = np.asarray(image.crop(box).resize(size, Image.Resampling.BICUBIC))
    return True


def samples(params: Params, images: int) -> Iterator[dict[str, Any]]:
    """Yield the first rows of the synthetic data set."""
    for row in trange(images, desc="images", unit="image", disable=None):
        text = caption(params.world, row).encode()
        yield {"__key__": f"{row:09d}", "jpg": jpeg(params.world, row), "txt": text}


def write_data(params: Params, folder: Path, pairs: Iterable[dict[str, Any]], sets: Iterable[str] = ()) -> Path:
    """Write a data folder with these pairs, a tokenizer of their captions, and test sets."""
    shards = write_shards(folder / "shards" / "0000", iter(pairs), params.shards.samples_per_shard)
    write_json(folder / "manifest.json", {"shards": shards, "samples": sum(shard["samples"] for shard in shards)})
    texts = tokenizer.captions(read_json(folder / "manifest.json"), folder / "shards")
    write_json(folder / "tokenizer.json", tokenizer.build(params, texts))
    for name in sets:
        make(params, name, folder / "tests" / name)
    return folder


def resized(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the pairs of a data folder with resized images."""
    for entry in read_json(folder / "manifest.json")["shards"]:
        shard = Shard(folder / "shards" / entry["name"])
        for item in range(len(shard)):
            image, text = resize_jpeg(bytes(shard.encoded(item)), COMPACT), shard.caption(item).encode()
            yield {"__key__": shard.key(item), "jpg": image, "txt": text}


def trained(params: Params, data: Path, seed: int) -> tuple[TwoTowers, Callable[[list[str]], torch.Tensor]]:
    """Train a model; return it with its tokenizer."""
    content = read_json(data / "manifest.json")
    pairs = build_loader(params, data, content, seed)
    model = build_model(params, pairs.captions.tokens.tokenizer.vocabulary, seed, "cpu")
    run = TrainingRun(params, pairs, model, count_steps(params, content["samples"]), seed, ProcessGroup())
    batches = run.batches()
    for _ in trange(run.steps, desc=f"seed {seed}", unit="step", disable=None):
        run.step(next(batches))
    batches.close()
    return model.eval(), lambda texts: torch.from_numpy(pairs.captions.tokens.tokenizer(texts))


def errors(params: Params, data: Path, tests: Path, sets: list[str], seed: int) -> dict[str, float]:
    """Return the zero-shot error rate on each test set of a model trained on this data."""
    model, tokenize = trained(params, data, seed)
    found = {}
    for name in sets:
        classes, templates = prompts(set_folder(params, tests, name))
        assert classes is not None
        assert templates is not None
        right = zeroshot.outcomes(Full(model), tokenize, read(params, tests, name), classes, templates, "cpu")
        found[name] = 1 - float(np.mean(right))
    return found


def rows(params: Params, folder: Path, images: int, sets: list[str], seeds: list[int]) -> Iterator[Row]:
    """Yield rows of error rates by test set and kind of shard."""
    whole = write_data(params, folder / "original", samples(params, images), sets)
    compact = write_data(params, folder / "resized", resized(whole))
    ways: dict[str, tuple[Path, AbstractContextManager[Any]]] = {
        "PIL": (whole, mock.patch.object(loader, "decode_crops", by_pil))
    }
    ways |= {"original": (whole, nullcontext()), "resized": (compact, nullcontext())}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in seeds:
        for way, (data, changed) in ways.items():
            with changed:
                found[way].append(errors(params, data, whole, sets, seed))
    for name in sets:
        wrong = {way: [one[name] for one in values] for way, values in found.items()}
        for way in ("original", "resized"):
            yield against(f"{name}: error rate after training on {way} shards", "", wrong[way], "PIL", wrong["PIL"])


def of_few(params: Params) -> Params:
    """Return parameters of a dry run: its warm-up ends within the few images, and test sets are small."""
    world, train = params.world, params.train.model_copy(update={"warmup_samples": 64})
    tests, probe = (
        one.model_copy(update=dict.fromkeys(one.model_fields_set, FEW_TESTED)) for one in (world.tests, world.probe)
    )
    world = world.model_copy(update={"tests": tests, "probe": probe})
    return params.model_copy(update={"train": train, "world": world})


def compare(part: str, about: str, rows: Callable[..., Iterable[Row]], argv: Sequence[str] | None = None) -> None:
    """Publish the rows that `rows(params, folder, images, sets, seeds)` gives for a variant of `tiny`."""
    parser = arguments(part, about)
    parser.add_argument("--variant", default="flip-50", help="of tiny (default: flip-50)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    options = parser.parse_args(argv)
    params = read_project(scale="tiny").variants[options.variant]
    images, sets, seeds = params.world.images, SETS, options.seeds
    if options.dry:
        images, sets, seeds = FEW, ["coarse"], [0]
        params = of_few(params)
    torch.set_num_threads(1)
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        how = {"variant": options.variant, "images": images, "seeds": len(seeds)}
        found = attempt("error rate", lambda: rows(params, Path(folder), images, sets, seeds))
        publish(part, found, options.results, how)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    compare("pixels", __doc__ or "", rows, argv)


if __name__ == "__main__":
    main()
