"""Rehearse a scale with made-up rows and no images: table, search for duplicates, index, manifest, order and plan.

    python -m benchmarks.rehearse --scale laion400m --rows 4000000
    make rehearse SCALE=laion400m ROWS=413000000

Each stage runs all its jobs, one after another, in a process of its own: CPU seconds, the largest memory of a job, and
what it counted. Fingerprints are drawn, as no image is fetched: one in twenty repeats an earlier row's.
"""

import argparse
import io
import multiprocessing
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.data import buckets, dropped, duplicates
from flip.data.fingerprints import HASHES, PART, write
from flip.data.manifest import merge
from flip.data.shard_index import write_index
from flip.files import write_json
from flip.sources import table
from flip.testsets.fingerprints import TESTS

ROOT = Path(__file__).parent.parent
REPEATED = 20  # one row of so many is a copy
INDEXED = 4  # shards that are written and indexed
LOOKED_UP = 200_000  # positions, from FAR on
FAR = 2_600_000_000  # 6.4 epochs of LAION-400M
STAGES = ("table", "fingerprints", "buckets", "duplicates", "dropped", "index", "manifest", "order", "plan")


class Rehearsal:
    """Hold what is made up: `rows` of a scale with these parameters, below a folder. Of its buckets, one in `every` is
    searched."""

    def __init__(self, params: Params, rows: int, folder: Path, every: int = 1):
        self.params, self.rows, self.folder, self.every = params, rows, folder, every

    def paths(self, stage: str, names: Sequence[str]) -> list[Path]:
        return [self.folder / stage / f"{name}.parquet" for name in names]

    def batches(self, _: Params) -> Iterator[pa.Table]:
        """Yield the rows of the source."""
        for first in range(0, self.rows, table.BATCH):
            numbers = pa.array(np.arange(first, min(first + table.BATCH, self.rows))).cast(pa.string())
            yield pa.table([numbers, numbers], [self.params.source.url_column, self.params.source.caption_column])

    def table(self) -> str:
        return f"{table.write_parts(self.params, self.folder / 'table', self.batches)['wanted']} rows"

    def drawn(self, part: int) -> Iterator[pa.Table]:
        """Yield the fingerprints of a part."""
        count = self.rows // self.params.download.parts
        rng, numbers = np.random.default_rng(part), np.arange(count)
        origin = np.where(rng.random(count) < 1 / REPEATED, rng.integers(0, count, count), numbers)
        source = np.random.default_rng(part // 2)  # neighbouring parts have the same images
        hashes = {}
        for name, kind in HASHES:
            taken = np.frombuffer(source.bytes(kind.byte_width * count), np.uint8).reshape(count, -1)[origin]
            hashes[name] = pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(taken.tobytes())])
        keys = [f"{part:04d}-{number:09d}" for number in numbers]
        rest = {"row": numbers, "url": keys, "captioned": np.ones(count, bool)}
        columns = {"key": keys, **rest, **hashes}
        yield pa.table([columns[name] for name in PART.names], schema=PART)

    def fingerprints(self) -> str:
        for part, path in enumerate(self.paths("fingerprints", self.params.download.part_names)):
            write(self.drawn(part), PART, path)
        write([], TESTS, self.folder / "fingerprints/tests.parquet")
        return "drawn, not measured against images"

    def group(self, name: str) -> Path:
        return self.folder / "buckets" / f"{name}.arrow"

    def found(self) -> dict[int, Path]:
        """Return where the duplicates of a bucket are, by its number."""
        names = [*enumerate(self.params.shards.bucket_names)]
        return {number: self.folder / "duplicates" / f"{name}.arrow" for number, name in names[:: self.every]}

    def groups(self) -> Iterator[tuple[str, list[Path]]]:
        for group, parts in self.params.download.groups.items():
            yield group, self.paths("fingerprints", parts)

    def buckets(self) -> str:
        for group, parts in self.groups():
            buckets.write_group(parts, self.params.shards.buckets, self.group(group))
        return f"{len(self.params.download.groups)} jobs"

    def duplicates(self) -> str:
        groups, buckets = [self.group(one) for one in self.params.download.groups], self.params.shards.buckets
        tests = self.folder / "fingerprints/tests.parquet"
        found = [duplicates.write_bucket(tests, groups, number, buckets, out) for number, out in self.found().items()]
        return f"{len(found)} of {buckets} jobs, {sum(found)} found"

    def dropped(self) -> str:
        found, lost = [*self.found().values()], 0
        for group, parts in self.groups():
            (out,) = self.paths("dropped", [group])
            dropped.write_group(found, parts, out)
            lost += pq.read_metadata(out).num_rows
        return f"{lost} images"

    def index(self) -> str:
        """Index shards of stubs: an image of a byte, a caption of a byte."""
        size = self.params.shards.samples_per_shard
        for shard in range(INDEXED):
            path = self.folder / "shards" / f"{shard:05d}.tar"
            path.parent.mkdir(exist_ok=True)
            with tarfile.open(path, "w") as tar:
                for number in range(size):
                    for kind in ("jpg", "txt"):
                        member = tarfile.TarInfo(f"{number:09d}.{kind}")
                        member.size = 1
                        tar.addfile(member, io.BytesIO(b"x"))
        start = time.process_time()
        for shard in range(INDEXED):
            write_index(self.folder / "shards" / f"{shard:05d}.tar")
        return f"{INDEXED * size / (time.process_time() - start):,.0f} samples/s"

    def counts(self) -> list[int]:
        """Return the samples of each shard."""
        whole, rest = divmod(self.rows, self.params.shards.samples_per_shard)
        return [self.params.shards.samples_per_shard] * whole + [rest] * bool(rest)

    def manifest(self) -> str:
        names, counts = self.params.download.part_names, self.counts()
        for number, name in enumerate(names):
            mine = counts[number :: len(names)]
            entries = [{"name": f"{name}/{n:05d}.tar", "sha256": f"{n:064x}"} for n in range(len(mine))]
            shards = [entry | {"samples": one} for entry, one in zip(entries, mine, strict=True)]
            ledger = {kind: sum(mine) for kind in ("wanted", "arrived", "decoded", "used")} | {"lost": {}}
            listed = {"name": f"{name}/samples.parquet", "samples": sum(mine), "pairs": "0"}
            write_json(self.folder / "accounts" / f"{name}.json", {"shards": shards, "list": listed, "ledger": ledger})
        write_json(self.folder / "account.json", {})
        found, _ = merge([*(self.folder / "accounts").glob("*.json")], self.folder / "account.json")
        return f"{found['samples']} samples in {len(found['shards'])} shards"

    def order(self) -> str:
        from flip.data.sampler import Order  # here, as it loads torch, whose memory no other stage has

        order = Order(self.counts(), 0, self.params.train.shuffle_shards)
        start = time.process_time()
        for position in range(FAR, FAR + LOOKED_UP):
            order.locate(position)
        return f"{(time.process_time() - start) / LOOKED_UP * 1e6:.1f} us a position from {FAR:,} on"

    def plan(self) -> str:
        """Plan the scale in a folder of its own."""
        for name in ("Snakefile", "params.yaml", "configs", "chosen", "rules", "flip", "profiles"):
            (self.folder / name).symlink_to(ROOT / name)
        words = ["-n", "--quiet", "all", "--cores", "1", "data", "--config", f"scale={self.params.scale}"]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *words], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return f"{next(line.split()[1] for line in done.stdout.splitlines() if line.startswith('total'))} jobs"


def usage() -> tuple[float, int]:
    """Return CPU seconds of this process and its children, and the largest memory of one of them, MB."""
    both = [resource.getrusage(one) for one in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both), max(one.ru_maxrss for one in both) // 1024


def run(rehearsal: Rehearsal, stage: str, said: Callable[[object], None]) -> None:
    """Run a stage, and say seconds, MB and what it counted."""
    before = usage()[0]
    words = getattr(rehearsal, stage)()
    seconds, megabytes = usage()
    said((seconds - before, megabytes, words))


def measured(rehearsal: Rehearsal, stage: str) -> tuple[float, int, str]:
    """Run a stage in a process of its own.

    Raises:
        ValueError: it failed.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(rehearsal, stage, sending.send))
    process.start()
    sending.close()
    process.join()
    if process.exitcode:
        raise ValueError(f"{stage} failed, see above")
    return receiving.recv()


def main(argv: Sequence[str] | None = None) -> None:
    """Rehearse by the options of the command line, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearse", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="laion400m", help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=4_000_000, help="made-up rows (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for about 2,400 bytes a row; default: a temporary one")
    parser.add_argument("--every", type=int, default=1, help="one bucket of so many is searched (default: all)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="in this order (default: all)")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="rehearsal-"))
    rehearsal = Rehearsal(
        read_project(ROOT / "params.yaml", options.scale).baseline, options.rows, folder, options.every
    )
    print(f"| {options.scale}, {options.rows:,} rows | CPU seconds | us a row | largest memory, MB | |")
    print("|---|---|---|---|---|", flush=True)
    try:
        for stage in options.stages:
            seconds, megabytes, said = measured(rehearsal, stage)
            each = seconds / options.rows * 1e6
            print(f"| {stage} | {seconds:.1f} | {each:.2f} | {megabytes:,} | {said} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
