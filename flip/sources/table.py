"""Build the URL table: rows of the source that pass the filters, sampled, dealt to the download's parts.

    python -m flip.sources.table --params specs/tiny/params/clip.yaml --out-folder data/tiny/table

Everything streams: memory holds one batch, a thousand rows per part, and 8 bytes per row of a random sample. Beside the
parts lies their account (account.json), with which the ledger begins: the rows of the source, those that are wanted,
and those lost to each filter and to sampling.
"""

import argparse
import resource
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Filters, Params, Source
from flip.config.sections.source import Size
from flip.config.sections.types import numbered as numbered_names
from flip.data.pairs import regroup
from flip.files import atomic, write_json
from flip.sources.read_table import BATCH, Batches, Reader, files_batches

ROWS_PER_PART = 1024  # rows that a part collects before they are written as one group
ACCOUNT = "account.json"

Conditions = dict[str, Callable[[pa.Table], pa.ChunkedArray]]


def schema(source: Source) -> pa.Schema:
    """Return the columns of a part; `sha256` (lower case) only where the source has it."""
    names = ["url", "caption", *(["sha256"] if source.sha256_column else [])]
    return pa.schema([*((name, pa.string()) for name in names), ("row", pa.int64())])


def numbered(batches: Batches) -> Batches:
    """Add `row`, the position in the source."""
    row = 0
    for batch in batches:
        yield batch.append_column("row", pa.array(np.arange(row, row + len(batch))))
        row += len(batch)


def conditions(filters: Filters, url: str) -> Conditions:
    """Return what tells which rows of a batch stay, by the name that the others are lost under, in the order in which
    they are asked; an unknown value does not pass."""
    found: Conditions = {"no URL": lambda batch: pc.not_equal(batch[url], "")}
    for name, choice in (("language", filters.language), ("unsafe", filters.unsafe)):
        if choice:
            found[f"filter: {name}"] = partial(is_among, choice.column, pa.array(choice.keep))
    if similarity := filters.similarity:
        least = similarity.at_least
        found["filter: similarity"] = lambda batch: pc.greater_equal(batch[similarity.column], least)
    if size := filters.size:
        found["filter: size"] = lambda batch: is_large(batch[size.width_column], batch[size.height_column], size)
    return found


def is_among(column: str, values: pa.Array, batch: pa.Table) -> pa.ChunkedArray:
    """Tell which rows of a batch have one of the values."""
    return pc.is_in(batch[column], values)


def is_large(widths: pa.ChunkedArray, heights: pa.ChunkedArray, size: Size) -> pa.ChunkedArray:
    """Tell which images are neither too small nor too elongated; null where a side is not known."""
    shorter, longer = (
        choose(widths, heights, skip_nulls=False) for choose in (pc.min_element_wise, pc.max_element_wise)
    )
    enough = pc.greater_equal(shorter, size.min_side)
    if not size.max_aspect_ratio:
        return enough
    return pc.and_(enough, pc.less_equal(longer, pc.multiply(shorter, size.max_aspect_ratio)))


def hashes(column: pa.ChunkedArray, source: Source) -> pa.ChunkedArray:
    """Convert a column of SHA-256 to lower case, as img2dataset compares them.

    Raises:
        ValueError: a value is no SHA-256, which no image could match.
    """
    lower = pc.utf8_lower(column)
    wrong = lower.filter(pc.invert(pc.fill_null(pc.match_substring_regex(lower, "^[0-9a-f]{64}$"), False)))
    if len(wrong):
        raise ValueError(
            f"{source.table}: source.sha256_column '{source.sha256_column}': {wrong[0].as_py()!r} is no SHA-256 of 64 "
            "hexadecimal digits; remove the row, name another column, or set the key to null to take images as they are"
        )
    return lower


def filtered(params: Params, read: Reader, lost: Counter[str]) -> Batches:
    """Yield what passes the filters, batch by batch, in the columns of a part; count the others in `lost`, each under
    the first filter that it fails."""
    source = params.source
    asked = conditions(source.filters, source.url_column)
    for batch in numbered(read(params)):
        for name, test in asked.items():
            before, batch = len(batch), batch.filter(test(batch))  # without those of which the answer is null
            lost[name] += before - len(batch)
        found = [batch[source.url_column], batch[source.caption_column], batch["row"]]
        if source.sha256_column:
            found.insert(2, hashes(batch[source.sha256_column], source))
        yield pa.table(found, schema=schema(source))


def scramble(rows: np.ndarray) -> np.ndarray:
    """Compute a fixed pseudo-random number (uint64) per row, different for different rows (SplitMix64's finalizer)."""
    x = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def threshold(params: Params, read: Reader) -> np.uint64:
    """Return the largest pseudo-random number among the `source.sample` smallest."""
    size = params.source.sample
    assert size is not None
    smallest = np.empty(0, np.uint64)
    for batch in filtered(params, read, Counter()):
        smallest = np.concatenate([smallest, scramble(batch["row"].to_numpy())])
        if len(smallest) > 2 * size + BATCH:
            smallest = np.partition(smallest, size)[:size]
    return np.sort(smallest)[:size].max(initial=0)


def chosen(params: Params, read: Reader, lost: Counter[str]) -> Batches:
    """Yield what is to be downloaded, batch by batch; count all other rows in `lost`."""
    if params.source.sample is None:
        yield from filtered(params, read, lost)
        return
    limit = threshold(params, read)
    for batch in filtered(params, read, lost):
        drawn = batch.filter(pa.array(scramble(batch["row"].to_numpy()) <= limit))
        lost["not sampled"] += len(batch) - len(drawn)
        yield drawn


def allow_open(files: int) -> None:
    """Raise this process's limit of open files, which is often 1,024, to so many and a hundred.

    Raises:
        ValueError: the system allows fewer.
    """
    needed, (soft, hard) = files + 100, resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"download.parts = {files}: as many files are written at once, and this system allows {hard} (ulimit -Hn); "
            "raise that, or lower download.parts"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def part_paths(folder: str | Path, parts: int) -> list[Path]:
    """Return the files of the parts."""
    return [Path(folder) / f"{part}.parquet" for part in numbered_names(parts, 4)]


def dealt(table: pa.Table, first: int, parts: int, by_image: bool) -> np.ndarray:
    """Return the part of each row, int64 [rows], of which `first` rows came before: in turns, or by the image's name,
    so that all captions of an image come together."""
    if by_image:
        return np.array([crc32((name or "").encode()) % parts for name in table["url"].to_pylist()], np.int64)
    return (first + np.arange(len(table))) % parts


def deal(params: Params, paths: list[Path], read: Reader = files_batches) -> dict:
    """Deal the rows one by one to the files of parts; return their account: {"rows", "wanted", "lost": {class: count}}.

    `read` yields the source's tables, and is called twice where a sample is drawn.

    Raises:
        ValueError: as `read`; or fewer rows are left than there are parts.
    """
    parts, total, lost = len(paths), 0, Counter[str]()
    allow_open(parts)
    with ExitStack() as stack, tqdm(desc="table", unit="row", unit_scale=True, disable=None) as bar:
        kind = schema(params.source)
        writers = [stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic(p)), kind)) for p in paths]
        for table in regroup(chosen(params, read, lost), parts * ROWS_PER_PART):
            owners = dealt(table, total, parts, by_image=params.source.kind != "world")
            rows = np.argsort(owners, kind="stable")
            shares = np.split(rows, np.searchsorted(owners[rows], np.arange(1, parts)))
            for writer, mine in zip(writers, shares, strict=True):
                if len(mine):
                    writer.write_table(table.take(mine))
            total += len(table)
            bar.update(len(table))
        if total < parts:
            raise ValueError(too_few(params, total, parts, +lost))
    return {"rows": total + lost.total(), "wanted": total, "lost": dict(sorted((+lost).items()))}


def write_parts(params: Params, folder: str | Path, read: Reader = files_batches) -> dict:
    """Deal the rows to `<folder>/<part>.parquet`; write their account beside them, and return it. Arguments and errors
    are those of `deal`."""
    account = deal(params, part_paths(folder, params.download.parts), read)
    write_json(Path(folder) / ACCOUNT, account)
    return account


def too_few(params: Params, total: int, parts: int, lost: Counter[str]) -> str:
    """Say that `total` rows are not enough, and where the others went."""
    went = ", ".join(f"{count:,} {name}" for name, count in lost.most_common())
    return (
        f"source.table '{params.source.table}': {total} rows left for download.parts = {parts}"
        f"{f' (lost: {went})' if went else ''}; relax source.filters, or lower download.parts"
    )


def main(argv: list[str] | None = None, read: Reader = files_batches) -> None:
    """Run the command; `read` yields the source's tables."""
    parser = argparse.ArgumentParser(prog=f"python -m {read.__module__}", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--out-folder", required=True, help="where <part>.parquet go")
    options = parser.parse_args(argv)
    try:
        params = load(options.params)
        account = write_parts(params, options.out_folder, read)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{account['wanted']} of {account['rows']} rows in {params.download.parts} parts")


if __name__ == "__main__":
    main()
