"""Measure loading from tars in a bucket against loading the same tars from a disk.

    python -m benchmarks.remote                         # two minutes on two cores
    python -m benchmarks.remote --images 2048 --rounds 3

The bucket is served on this machine (rclone), which takes its share of the cores. Each run is a first pass: the cache
is empty when it begins, and has room for half of the tars.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.harness import Form, measure
from benchmarks.loading import CROP, SLOTS, exhausting
from benchmarks.noise_shards import samples
from benchmarks.table import Row, against, arguments, attempt, publish
from flip.config.resolve import read_project
from flip.config.schema import Cache
from flip.data.loader import CaptionReader, ImageReader, Loader, ShardReader
from flip.data.sampler import build_order
from flip.data.shard import Shard
from flip.data.shard_index import write_taken_in
from flip.data.shards import write_shard
from flip.data.tar_cache import TarCache
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer
from flip.files import read_json, write_json
from flip.formats.texts import Texts

TARS, SIDE, WORKERS = 12, 224, 2
PORT = 9199
ADDRESS = f"http://127.0.0.1:{PORT}"


def write(folder: Path, images: int) -> None:
    """Write tars as a bucket, and for each an index and captions, as those of a source's tars are."""
    made, entries = samples(images), []
    for number in range(TARS):
        tar = folder / "store/bucket" / f"{number:05d}.tar"
        entry = write_shard(tar, islice(made, -(-images // TARS)))
        shard = Shard(tar)
        places = zip(shard.images, shard.sizes, map(shard.caption, range(len(shard))), strict=True)
        write_taken_in(folder / "shards" / entry["name"], ((place, Texts([text])) for *place, text in places))
        entries.append(entry | {"name": entry["name"], "version": ""})
    write_json(folder / "manifest.json", {"shards": entries})


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """Serve the bucket."""
    words = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{PORT}"]
    words += ["--auth-key", "name,secret", "--vfs-cache-mode", "off", str(folder / "store")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        while not answers():
            time.sleep(0.1)
        try:
            yield
        finally:
            server.terminate()


def answers() -> bool:
    """Tell whether the server is there; it refuses those without keys."""
    try:
        urlopen(ADDRESS)
    except URLError as error:
        return hasattr(error, "code")
    return True


def loader(folder: Path, place: str, cache: TarCache) -> Loader:
    """Return the loader of the tars at a place."""
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    manifest["shards"] = [one | {"tar": f"{place}/{Path(one['name']).name}"} for one in manifest["shards"]]
    captions = read_project(scale="tiny").variants["clip-form"].captions
    tokens = Tokens(CaptionTokenizer(None, SLOTS, captions), folder, manifest)
    shards, order = ShardReader(manifest, folder / "shards", 1, cache), build_order(manifest, None, 1, 0, 1)
    return Loader(order, ImageReader(shards, order, SIDE, CROP, 0), CaptionReader(tokens, order, shards.most))


def first_pass(folder: Path, place: str) -> Callable[[], None]:
    """Return a function that loads all batches once, with nothing in the cache; the keys of the bucket are in the
    environment of the process that calls this."""
    keys = {"ACCESS_KEY_ID": "name", "SECRET_ACCESS_KEY": "secret", "ENDPOINT_URL": ADDRESS}
    os.environ.update({f"AWS_{name}": value for name, value in keys.items()} | {"AWS_DEFAULT_REGION": "us-east-1"})
    sizes = [entry["bytes"] for entry in read_json(folder / "manifest.json")["shards"]]
    room = Cache(folder=str(folder / "cache"), gigabytes=max(sizes) * TARS / 2 / 1e9)

    def run() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        exhausting(loader(folder, place, TarCache(room)), WORKERS)()

    return run


def compare(folder: Path, images: int, rounds: int) -> Iterator[Row]:
    """Yield the row of a first pass."""
    places = {"bucket": "s3://bucket", "disk": str(folder / "store/bucket")}
    forms = {name: Form(first_pass, (folder, place), keep=True, clock="wall") for name, place in places.items()}
    found = measure(forms, rounds)
    name = f"tars in a bucket to batch, {SIDE} px, {WORKERS} workers, first pass, wall-clock time"
    yield against(name, "s", found["bucket"].seconds, "on a disk", found["disk"].seconds, images, at_least=0.9)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    parser = arguments("remote", __doc__ or "")
    parser.add_argument("--images", type=int, default=3072, help=f"in {TARS} tars (default: 3072)")
    options = parser.parse_args(argv)
    if options.dry:
        options.images, options.rounds = 2 * TARS, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.images)
        with served(folder):
            rows = attempt("tars in a bucket", partial(compare, folder, options.images, options.rounds))
            publish("remote", rows, options.results, {"images": options.images, "rounds": options.rounds})


if __name__ == "__main__":
    main()
