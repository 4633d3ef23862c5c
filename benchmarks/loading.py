"""From tar shards to a batch, per core, against what open_clip's training does by default; and shard reading alone.

    python -m benchmarks.loading                        # to 224 and to 64 pixels: about three minutes
    python -m benchmarks.loading --pictures 512 --rounds 3

The pictures: JPEGs with a shorter side of 256 pixels and about 23 kB, as img2dataset leaves them. open_clip's default
is its own `image_transform` (decoding by PIL, a random crop of 90 to 100 % of the area, bicubic with antialiasing,
floats, normalised) and its BPE tokenizer, on what `webdataset` reads. Ours gives bytes of such crops, and ids; the
model normalises. The forms take turns, round by round; pictures per second and CPU core, medians over rounds, ratios
medians of the rounds'. `difference` is the mean over pixels of |ours - PIL's bicubic with antialiasing| of the same
crop, of 255.
"""

import argparse
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image

import flip.torchvision_operators  # noqa: F401  (before open_clip, which imports torchvision)
from flip.data.index import write_index
from flip.data.loader import Loader, Shard, crop_box, squares
from flip.data.tokenizer import Tokenizer
from flip.files import write_json
from flip.model.masking import uniform
from flip.params import read_project
from flip.provenance import processor
from flip.schema import Augmentation

CROP = Augmentation(crop_area=(0.9, 1.0), crop_aspect=(0.75, 4 / 3), flip=False)  # open_clip's default
WORDS = ("a", "photo", "of", "the", "old", "house", "dog", "street", "with", "and", "water", "sunset", "vintage")


def picture(random: np.random.Generator, height: int, width: int) -> bytes:
    """A JPEG of about 0.35 bytes per pixel: shapes at all sizes, as photographs have."""
    image = np.full((height, width, 3), 128, np.float32)
    for side in (2, 4, 8, 16, 32, 64, 128, 256):
        noise = random.standard_normal((side, side, 3)).astype(np.float32)
        image += 90 / side**0.55 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return simplejpeg.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), quality=87, colorsubsampling="420")


def write_shard(folder: Path, pictures: int) -> dict:
    """A shard with its index; the manifest of that one shard."""
    import webdataset as wds

    random, path = np.random.default_rng(0), folder / "00000.tar"
    with wds.TarWriter(str(path)) as tar:
        for number in range(pictures):
            sides = (256, int(random.integers(256, 400)))[:: random.choice((1, -1))]
            caption = " ".join(random.choice(WORDS, random.integers(5, 16)))
            tar.write({"__key__": f"{number:08d}", "jpg": picture(random, *sides), "txt": caption})
    write_index(path)
    return {"shards": [{"name": path.name, "samples": pictures, "bytes": path.stat().st_size}]}


def open_clips(tar: Path, side: int, batch: int):
    """One pass of batches as open_clip's training has them."""
    import webdataset as wds
    from open_clip import SimpleTokenizer, image_transform

    pixels, tokenizer = image_transform(side, is_train=True), SimpleTokenizer(context_length=32)
    pipeline = (
        wds.WebDataset(str(tar), shardshuffle=False, empty_check=False).decode("pilrgb").rename(image="jpg", text="txt")
    )
    pipeline = pipeline.map_dict(image=pixels, text=lambda text: tokenizer(text)[0]).to_tuple("image", "text")
    return pipeline.batched(batch)


def build_loader(folder: Path, manifest: dict, side: int) -> Loader:
    params = read_project(scale="tiny").variants["clip-form"]
    tokenizer = Tokenizer(None, 32, params.captions)
    return Loader(manifest, folder, tokenizer, side, CROP, 0, 1)


def exhaust(iterable) -> None:
    deque(iterable, maxlen=0)


def ours(loader: Loader, pictures: int, batch: int) -> None:
    for start in range(0, pictures, batch):
        loader.batch(start, min(batch, pictures - start))


def read_by_index(tar: Path, pictures: int) -> None:
    shard = Shard(tar)
    exhaust(shard[item] for item in range(pictures))


def read_by_webdataset(tar: Path) -> None:
    import webdataset as wds

    exhaust(wds.WebDataset(str(tar), shardshuffle=False, empty_check=False))


def seconds(function) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def difference(tar: Path, side: int, pictures: int) -> float:
    """Mean |ours - PIL's bicubic with antialiasing| of the same crops, of 255."""
    shard, found = Shard(tar), []
    draws = uniform(0, "augmentation", torch.arange(pictures), Loader.CROP).numpy()
    for item in range(pictures):
        jpeg = shard[item][0]
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
        box = top, left, rows, columns = crop_box(height, width, CROP, draws[item][1:].reshape(-1, 4))
        mine = squares(jpeg, lambda *_, box=box: [box], side)[0]
        exact = Image.fromarray(simplejpeg.decode_jpeg(jpeg)).crop((left, top, left + columns, top + rows))
        theirs = np.asarray(exact.resize((side, side), Image.Resampling.BICUBIC))
        found.append(np.abs(mine.astype(np.float32) - theirs).mean())
    return float(np.mean(found))


def measure(name: str, forms: dict, pictures: int, rounds: int) -> list[dict]:
    """One row per form; the first is what the others are compared with."""
    spent = {who: [] for who in forms}
    for number in range(rounds + 1):
        for who, form in forms.items():
            taken = seconds(form)
            if number:  # the first warms up
                spent[who].append(taken)
    first = next(iter(spent.values()))
    return [
        {
            "what": name,
            "who": who,
            "per_second": [pictures / one for one in taken],
            "times_as_fast": [a / b for a, b in zip(first, taken, strict=True)],
        }
        for who, taken in spent.items()
    ]


def compare(folder: Path, pictures: int, batch: int, sides: list[int], rounds: int) -> list[dict]:
    manifest = write_shard(folder, pictures)
    tar = folder / manifest["shards"][0]["name"]
    rows = []
    for side in sides:
        loader = build_loader(folder, manifest, side)
        forms = {
            "open_clip": lambda side=side: exhaust(open_clips(tar, side, batch)),
            "flip": lambda loader=loader: ours(loader, pictures, batch),
        }
        found = measure(f"tar to batch, {side} px", forms, pictures, rounds)
        found[-1]["difference"] = difference(tar, side, min(pictures, 64))
        rows += found
    reading = {"webdataset": lambda: read_by_webdataset(tar), "flip": lambda: read_by_index(tar, pictures)}
    return rows + measure("reading a shard", reading, pictures, rounds)


def markdown(rows: list[dict]) -> str:
    lines = ["| what | whose | samples per CPU second (smallest-largest) | times as fast | difference, of 255 |"]
    lines.append("|" + "---|" * 5)
    for row in rows:
        rates, ratio = row["per_second"], statistics.median(row["times_as_fast"])
        rate = f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
        apart = f"{row['difference']:.2f}" if "difference" in row else ""
        lines.append(f"| {row['what']} | {row['who']} | {rate} | {ratio:.1f} | {apart} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1024, help="in the shard (default: 1024)")
    parser.add_argument("--batch", type=int, default=256, help="default: 256")
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 64], help="pixels (default: 224 64)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; the median counts (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file for every round's figures")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(Path(folder), options.pictures, options.batch, options.sides, options.rounds)
    print(markdown(rows))
    if options.out:
        write_json(options.out, {"processor": processor(), "torch": torch.__version__, "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
