"""Identify pairs of image and caption, and read and write lists of pairs: the `samples.parquet` beside the shards.

An image is identified by the SHA-256 of the bytes that its URL gave, before it was resized and encoded again. So two
sites that hold the same pairs can tell, whatever their JPEG encoder, their parts and their order.
"""

from collections.abc import Iterable, Iterator
from glob import glob
from hashlib import sha256
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NAME = "samples.parquet"
SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "url", "caption", "sha256")])
BATCH = 65_536  # rows that are read, and written as one group, at a time


def pair_hash(image: str, caption: str) -> bytes:
    """Hash a pair, 32 bytes: SHA-256 of the image's SHA-256 (64 hexadecimal digits, so the border is clear) and the
    caption."""
    return sha256(f"{image}{caption}".encode()).digest()


def combine_digests(digests: Iterable[str]) -> str:
    """Combine the digests of several sets of pairs into that of all of them: hexadecimal, a sum modulo 2**256.

    A sum, because it depends neither on the order of pairs nor on how they are dealt to parts, so each part can have
    its own; and unlike with XOR, a pair that is there twice does not vanish. It tells sets apart that differ by
    accident; who makes pairs up to that end can forge it.
    """
    return f"{sum(int(digest, 16) for digest in digests) % 2**256:064x}"


class SampleList:
    """Write the list of a part's samples (`SCHEMA`, in shard order) to a file, a row for each caption; memory holds one
    batch."""

    def __init__(self, file: IO[bytes]):
        self.writer = pq.ParquetWriter(file, SCHEMA)
        self.waiting: list[dict] = []
        self.samples, self.sum = 0, 0

    def add(self, sample: dict) -> dict:
        """List a sample, and return it for a shard, into which what begins with `__` is not written."""
        image = sample["__sha256__"]
        for caption in sample["__captions__"].all:
            row = {"key": sample["__key__"], "url": sample["__url__"], "caption": caption, "sha256": image}
            self.waiting.append(row)
            self.sum += int.from_bytes(pair_hash(image, caption))
        self.samples += 1
        if len(self.waiting) >= BATCH:
            self.flush()
        return sample

    def flush(self) -> None:
        """Write the rows held in memory as one row group."""
        self.writer.write_table(pa.Table.from_pylist(self.waiting, schema=SCHEMA))
        self.waiting = []

    def close(self) -> None:
        """Write what is held, and close the file's writer."""
        self.flush()
        self.writer.close()

    @property
    def pairs(self) -> str:
        """Return the digest of these pairs (`combined`)."""
        return combine_digests([f"{self.sum:x}"])


LISTS = f"name lists such as data/<scale>/shards/*/{NAME}"


def files(asked_by: str, pattern: str, columns: Iterable[str], remedy: str = LISTS) -> list[str]:
    """List the parquet files of a path or glob, by name.

    `asked_by` is the key or option to change, `remedy` what to give instead; both are for messages.

    Raises:
        ValueError: there is none, or one lacks a column of text.
    """
    paths = sorted(glob(pattern, recursive=True))
    if not paths:
        raise ValueError(f"{asked_by} '{pattern}': no such file; {remedy}")
    for path in paths:
        schema = pq.read_schema(path)
        texts = [field.name for field in schema if field.type in (pa.string(), pa.large_string())]
        for column in columns:
            if (count := texts.count(column)) != 1:
                there = ", ".join(f"{field.name} ({field.type})" for field in schema)
                found = f"{count or 'no'} column{'s' if count else ''} '{column}' of text"
                raise ValueError(f"{asked_by}: {path} has {found}; there are: {there}; {remedy}")
    return paths


def batches(paths: list[str], columns: Iterable[str]) -> Iterator[pa.Table]:
    """Yield tables of these columns; missing text is empty, hashes are in lower case.

    They are read by row group, because a reader of a whole file keeps what it has read until the end (pyarrow 26).
    """
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=list(columns)):
                    yield cleaned(pa.Table.from_batches([batch]).select(list(columns)).cast(schema))


def cleaned(table: pa.Table) -> pa.Table:
    """Fill missing text with empty strings, and convert hashes to lower case."""
    filled = {name: pc.fill_null(table[name], "") for name in table.column_names}
    return pa.table(filled | {"sha256": pc.utf8_lower(filled["sha256"])})


def regroup(batches: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the same rows in tables of at least `rows`, the last one excepted; none if there is no batch."""
    held = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
