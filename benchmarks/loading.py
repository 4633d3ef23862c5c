"""Measure loading from tar shards to batches, per core, against open_clip's default; and shard reading alone.

    python -m benchmarks.loading                        # to 224 and to 64 pixels: about three minutes
    python -m benchmarks.loading --images 512 --rounds 3

The images are JPEGs with a shorter side of 256 pixels and about 20 kB, as img2dataset writes them. open_clip's default
is its own `image_transform` (decoding by PIL, a random crop of 90 to 100 % of the area, bicubic with antialiasing,
normalized floats) and its BPE tokenizer, on what `webdataset` reads. Ours gives bytes of such crops, which the model
normalizes, and cached token ids (tokenization has a row of its own). Compact (resized) shards hold the same images at a
shorter side of 72 pixels (`shards.compact`). A note states the mean absolute difference, of 255, to pixels of PIL's
bicubic with antialiasing, on the same crop of the original image.
"""

import argparse
import os
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image

from benchmarks.harness import Form, called, measure, peer
from benchmarks.noise_shards import facts, tar, write
from benchmarks.table import Row, against, arguments, attempt, publish
from flip.config.resolve import read_project
from flip.config.schema import Augmentation
from flip.data.crops import crop_box, decode_crops, resize
from flip.data.gpu_decode import GpuImageReader
from flip.data.loader import CROP as DRAWN
from flip.data.loader import CaptionReader, ImageReader, Loader, ShardReader
from flip.data.prefetch import prefetch
from flip.data.sampler import build_order
from flip.data.shard import Shard
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer
from flip.formats.foreign_tars import find_samples, mapped
from flip.rng import uniform

CROP = Augmentation(crop_area=(0.9, 1.0), crop_aspect=(0.75, 4 / 3), flip=False)  # open_clip's default
BATCH, SLOTS = 256, 32
OF_LIMIT = 0.95  # of decoding and resizing alone
PASSES = 10  # over a shard that is only read: one takes less than a millisecond


def loader(folder: Path, kind: str, side: int) -> Loader:
    """Return the loader of a shard."""
    captions = read_project(scale="tiny").variants["clip-form"].captions
    manifest, data = {"shards": [facts(folder, kind)]}, folder / kind
    tokens = Tokens(CaptionTokenizer(None, SLOTS, captions), data, manifest)
    shards, order = ShardReader(manifest, data / "shards", 1), build_order(manifest, None, 1, 0, 1)
    return Loader(order, ImageReader(shards, order, side, CROP, 0), CaptionReader(tokens, order, shards.most))


def exhaust(iterable: Iterable[object]) -> None:
    """Iterate to the end."""
    deque(iterable, maxlen=0)


def ours(folder: Path, kind: str, side: int, workers: int = 0) -> Callable[[], None]:
    """Return a function that loads all batches once."""
    return exhausting(loader(folder, kind, side), workers)


def exhausting(data: Loader, workers: int) -> Callable[[], None]:
    """Return a function that iterates over a loader's batches once."""
    total = data.order.total
    return lambda: exhaust(
        prefetch(lambda start: data.batch(start, min(BATCH, total - start)), range(0, total, BATCH), workers)
    )


def on_gpu(folder: Path, side: int, decode: Callable[..., Any], workers: int = 2) -> Callable[[], None]:
    """Return `ours` decoded by the GPU: one thread reads and launches while another waits for the GPU."""
    plain = loader(folder, "original", side)
    images = GpuImageReader(decode, "cuda", plain.images.shards, plain.order, side, CROP, 0)
    return exhausting(Loader(plain.order, images, plain.captions), workers)


def pixels_alone(folder: Path, side: int) -> Callable[[], None]:
    """Return a function that only decodes by libjpeg-turbo and resizes: the floor.

    It decodes at the scale that the loader uses most, and resizes as much as a crop has on average.
    """
    shard, square = Shard(tar(folder, "original")), np.empty((side, side, 3), np.uint8)
    least, share = 128 if side <= 96 else 256, np.mean(CROP.crop_area) ** 0.5

    def run() -> None:
        for item in range(len(shard)):
            image = simplejpeg.decode_jpeg(shard.encoded(item), "RGB", True, True, least, least)
            rows, columns = (round(share * edge) for edge in image.shape[:2])
            resize(image[:rows, :columns], square)

    return run


def theirs(folder: Path, side: int) -> Callable[[], None]:
    """Return a function that loads all batches once as open_clip's training does."""
    wds, open_clip = peer("webdataset"), peer("open_clip")
    pixels, tokenizer = open_clip.image_transform(side, is_train=True), open_clip.SimpleTokenizer(context_length=SLOTS)

    def run() -> None:
        shard = wds.WebDataset(str(tar(folder, "original")), shardshuffle=False, empty_check=False)
        pairs = shard.decode("pilrgb").rename(image="jpg", text="txt")
        pairs = pairs.map_dict(image=pixels, text=lambda text: tokenizer(text)[0]).to_tuple("image", "text")
        exhaust(pairs.batched(BATCH))

    return run


def reading(folder: Path) -> Callable[[], object]:
    """Return a function that reads as the loader does: images one by one, and all captions."""
    shard = Shard(tar(folder, "original"))
    return lambda: [(exhaust(map(shard.encoded, range(len(shard)))), shard.captions()) for _ in range(PASSES)]


def their_reading(folder: Path) -> Callable[[], object]:
    """Return a function that reads a shard by webdataset."""
    wds, name = peer("webdataset"), str(tar(folder, "original"))
    return lambda: [exhaust(wds.WebDataset(name, shardshuffle=False, empty_check=False)) for _ in range(PASSES)]


def indexing(folder: Path) -> Callable[[], object]:
    """Return a function that finds the samples of a tar of others."""
    path = tar(folder, "original")

    def run() -> None:
        with mapped(path) as content:
            find_samples(content)

    return lambda: [run() for _ in range(PASSES)]


def their_indexing(folder: Path) -> Callable[[], object]:
    """Return a function that lists a tar by tarfile."""
    path = tar(folder, "original")

    def run() -> None:
        with tarfile.open(path, "r:") as file:
            exhaust(file)

    return lambda: [run() for _ in range(PASSES)]


def captions(folder: Path) -> list[str]:
    """Return all captions."""
    return Shard(tar(folder, "original")).captions()


def encoding(folder: Path) -> Callable[[], object]:
    """Return a function that tokenizes all captions."""
    found, read = captions(folder), loader(folder, "original", 64).captions
    assert read is not None
    tokenizer = read.tokens.tokenizer
    return lambda: tokenizer.encode(found)


def their_encoding(folder: Path) -> Callable[[], object]:
    """Return a function that tokenizes all captions by open_clip."""
    found, tokenizer = captions(folder), peer("open_clip").SimpleTokenizer(context_length=SLOTS)
    return lambda: tokenizer(found)


def difference(folder: Path, kind: str, side: int, images: int = 64) -> str:
    """Return a note on the mean difference to PIL's pixels of the same crops of the same images."""
    whole, stored, found = Shard(tar(folder, "original")), Shard(tar(folder, kind)), []
    draws = uniform(0, "augmentation", torch.arange(images), DRAWN).numpy()[:, 1:].reshape(images, -1, 4)
    for item in range(min(images, len(whole))):
        image, mine = Image.open(BytesIO(whole.encoded(item))), np.empty((side, side, 3), np.uint8)
        top, left, rows, columns = box = crop_box(image.height, image.width, CROP, draws[item])

        def same_part(
            height: int, _: int, box: tuple[int, ...] = box, original: int = image.height
        ) -> list[tuple[int, ...]]:
            return [tuple(round(edge * (height / original)) for edge in box)]

        decode_crops(stored.encoded(item), same_part, [mine])
        exact = image.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + columns, top + rows))
        found.append(np.abs(mine.astype(np.float32) - np.asarray(exact)).mean())
    return f"{np.mean(found):.2f} of 255 from PIL's pixels"


def stored(folder: Path, kind: str) -> str:
    """Return a note on the mean size of an image."""
    shard = Shard(tar(folder, kind))
    return f"{sum(len(shard.encoded(item)) for item in range(len(shard))) / len(shard) / 1000:.1f} kB an image"


def compare(folder: Path, side: int, rounds: int, goals: dict[str, float]) -> Iterator[Row]:
    """Yield rows of batches at one image size; `goals` are speed-ups over open_clip's by kind of shard."""
    forms = {kind: Form(ours, (folder, kind, side), keep=True) for kind in goals}
    forms |= {"open_clip": Form(theirs, (folder, side)), "floor": Form(pixels_alone, (folder, side), keep=True)}
    found, images = measure(forms, rounds), len(captions(folder))
    for kind, target in goals.items():
        note = f"{difference(folder, kind, side)}; {stored(folder, kind)}"
        times = found[kind].seconds, called("open_clip_torch"), found["open_clip"].seconds, images
        yield against(f"{kind} shard to batch, {side} px", "s", *times, at_least=target, note=note)
    title, least, other = f"original shard to batch, {side} px", found["floor"].seconds, found["open_clip"].seconds
    name, who = f"{title}: over decoding and resizing alone", f"{called('simplejpeg')}, torch"
    yield against(name, "s", found["original"].seconds, who, least, images, at_least=OF_LIMIT)
    name = f"{title}: the limit, decoding and resizing alone"
    yield against(name, "s", least, called("open_clip_torch"), other, images)


def compare_parts(folder: Path, rounds: int) -> Iterator[Row]:
    """Yield the rows of reading and of tokenization."""
    count, webdataset = len(captions(folder)), called("webdataset")
    found = measure({"ours": Form(reading, (folder,)), "theirs": Form(their_reading, (folder,))}, rounds)
    times = found["ours"].seconds, webdataset, found["theirs"].seconds, PASSES * count
    yield against("reading a shard", "s", *times, at_least=100)
    found = measure({"ours": Form(indexing, (folder,)), "theirs": Form(their_indexing, (folder,))}, rounds)
    seconds, other = found["ours"].seconds, found["theirs"].seconds
    note = f"{PASSES * count / np.median(seconds):,.0f} samples/s a core, of two files each"
    yield against("finding samples in a tar", "s", seconds, "tarfile", other, PASSES * count, at_least=5, note=note)
    found = measure({"ours": Form(encoding, (folder,)), "theirs": Form(their_encoding, (folder,))}, rounds)
    who = called("open_clip_torch")
    yield against("tokenization (cached)", "s", found["ours"].seconds, who, found["theirs"].seconds, count)


def compare_workers(folder: Path, side: int, rounds: int) -> Iterator[Row]:
    """Yield the row of several workers against one."""
    cores = len(os.sched_getaffinity(0))
    workers = {"one": 1, "all": cores}
    forms = {name: Form(ours, (folder, "original", side, n), keep=True, clock="wall") for name, n in workers.items()}
    found = measure(forms, rounds)
    name = f"original shard to batch, {side} px, {cores} workers, wall-clock time"
    yield against(name, "s", found["all"].seconds, "1 worker", found["one"].seconds, len(captions(folder)))


def compare_gpu(folder: Path, side: int, rounds: int) -> Iterator[Row]:
    """Yield the row of decoding by the GPU against all cores."""
    cores, decode = len(os.sched_getaffinity(0)), peer("torchcodec.decoders").decode_jpeg
    forms = {"gpu": Form(on_gpu, (folder, side, decode), keep=True, clock="wall")}
    forms |= {"cores": Form(ours, (folder, "original", side, cores), keep=True, clock="wall")}
    found, name = measure(forms, rounds), f"original shard to batch, {side} px, decoded by the GPU, wall-clock time"
    yield against(name, "s", found["gpu"].seconds, f"{cores} cores", found["cores"].seconds, len(captions(folder)))


def rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Yield the rows of all comparisons."""
    write(folder, options.images)
    goals: dict[int, dict[str, float]] = {224: {"original": 7}, 64: {"original": 7, "resized": 10}}
    for side, goal in goals.items():
        yield from attempt(f"shards to batches, {side} px", partial(compare, folder, side, options.rounds, goal))
    yield from attempt("reading a shard", lambda: compare_parts(folder, options.rounds))
    yield from attempt("workers", lambda: compare_workers(folder, 224, options.rounds))
    if torch.cuda.is_available():
        yield from attempt("decoded by the GPU", lambda: compare_gpu(folder, 224, options.rounds))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparisons by the options of the command line."""
    parser = arguments("loading", __doc__ or "")
    parser.add_argument("--images", type=int, default=1024, help="in the shard (default: 1024)")
    options = parser.parse_args(argv)
    if options.dry:
        options.images, options.rounds = 8, 1
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        how = {"images": options.images, "rounds": options.rounds, "threads": 1}
        publish("loading", rows(options, Path(folder)), options.results, how)


if __name__ == "__main__":
    main()
