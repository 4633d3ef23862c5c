"""Compare lists of samples: what of one is missing in another, and which pairs are in both.

Pairs are equal when the image's SHA-256 and the caption are. What is written is a list itself: it can be downloaded
(`source.table`, `source.sha256_column`), and a run can be restricted to it (`shards.only`).

Lists may be of any length: they are read once per range of hashes. Of the pairs in a range, about `SPAN` of both lists
together, memory holds hashes and their order, 44 bytes each (measured): 2 GB at most. Output is written range by range.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.data.pairs import BATCH, SCHEMA, batches, pair_hash, regroup
from flip.files import atomic

SPAN = 1 << 25  # pairs that are compared at a time
PAIR = ["sha256", "caption"]
MARK = 16  # bytes of a pair's hash: among a billion pairs, two share them with a chance of 1e-21


def spans(paths: list[str]) -> list[tuple[str, str]]:
    """Return ranges of hexadecimal hashes, first and past the last, that hold about `SPAN` rows of the files each."""
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    count = min(max(math.ceil(rows / SPAN), 1), 1 << 16)
    edges = [f"{(number << 16) // count:04x}" for number in range(1, count)]
    return list(zip(["", *edges], [*edges, "g"], strict=True))


def rows_of(paths: list[str], span: tuple[str, str], columns: list[str]) -> Iterator[pa.Table]:
    """Yield tables of a list's rows in a range of hashes."""
    for table in batches(paths, columns):
        within = pc.and_(pc.greater_equal(table["sha256"], span[0]), pc.less(table["sha256"], span[1]))
        yield table.filter(within)


def marks(paths: list[str], span: tuple[str, str]) -> np.ndarray:
    """Return the hashes of a list's pairs in a range, in the list's order: bytes [pairs], `MARK` each."""
    found = bytearray()
    for table in rows_of(paths, span, PAIR):
        columns = (table[name].to_pylist() for name in PAIR)
        found += b"".join(pair_hash(*pair)[:MARK] for pair in zip(*columns, strict=True))
    return np.frombuffer(found, f"S{MARK}")


def among(pairs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which pairs are among others: bool [pairs]."""
    if not len(others):
        return np.zeros(len(pairs), bool)
    known = np.sort(others)
    return known[np.searchsorted(known, pairs).clip(max=len(known) - 1)] == pairs


@contextmanager
def writing(out: str | Path | None) -> Iterator[Callable[[Iterable[pa.Table]], object]]:
    """Give a function that writes tables to `out` in row groups of some size, or does nothing if that is None."""
    if out is None:
        yield lambda tables: None
        return
    with atomic(out) as file, pq.ParquetWriter(file, SCHEMA) as writer:
        yield lambda tables: [writer.write_table(table) for table in regroup(tables, BATCH)]


def chosen_rows(paths: list[str], span: tuple[str, str], chosen: np.ndarray) -> Iterator[pa.Table]:
    """Yield tables of the chosen rows, bool [rows], of a list's range."""
    start = 0
    for table in rows_of(paths, span, SCHEMA.names):
        yield table.filter(pa.array(chosen[start : start + len(table)]))
        start += len(table)


def missing(wanted: list[str], have: list[str], out: str | Path | None = None) -> dict[str, int]:
    """Write the rows of `wanted` whose pair is not in `have`; return counts."""
    counts = {"wanted": 0, "there": 0, "missing": 0}
    with writing(out) as write:
        for span in tqdm(spans(wanted + have), desc="missing", unit="span", disable=None):
            pairs = marks(wanted, span)
            there = among(pairs, marks(have, span))
            found = int(there.sum())
            for name, count in {"wanted": len(pairs), "there": found, "missing": len(pairs) - found}.items():
                counts[name] += count
            write(chosen_rows(wanted, span, ~there))
    return counts


def intersect(of: list[str], other: list[str], out: str | Path) -> dict[str, int]:
    """Write the rows of `of` whose pair is in `other` too; return counts. A pair that a list repeats counts each
    time."""
    counts = {"in both": 0, "only --of": 0, "only --with": 0}
    with writing(out) as write:
        for span in tqdm(spans(of + other), desc="intersect", unit="span", disable=None):
            ours, theirs = marks(of, span), marks(other, span)
            both = among(ours, theirs)
            write(chosen_rows(of, span, both))
            counts["in both"] += int(both.sum())
            counts["only --of"] += int((~both).sum())
            counts["only --with"] += int((~among(theirs, ours)).sum())
    return counts
