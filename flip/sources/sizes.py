"""Count the pairs of a source before anything is made of it: exactly where its files say how many they have, otherwise
by how many their first bytes hold."""

import gzip
import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from flip.config.schema import Source
from flip.data.arrived import place_of
from flip.formats import remote
from flip.formats.foreign_tars import find_samples, mapped
from flip.sources.list_tars import find_tars, is_pair, look_at
from flip.sources.read_table import TEXT_FILES, UNKNOWN, first_line, header, naming
from flip.sources.take_in import stated

HEAD = 1 << 23  # bytes of a file that stand for the rest of it
BLOCK = 1 << 16


class Rows(NamedTuple):
    """Hold how many rows, or samples of tars, a source has, and what says so."""

    number: int
    how: str


def rows_of(source: Source) -> Rows:
    """Count the rows of a source, or the samples of its tars; of several, those of all.

    Raises:
        ValueError: a file is missing, or cannot be read.
        OSError: likewise.
    """
    if source.kind == "several":
        every = [rows_of(one) for one in source.named.values()]
        return Rows(sum(one.number for one in every), "; ".join(dict.fromkeys(one.how for one in every)))
    found = samples(source) if source.kind == "tars" else table_rows(source)
    return found._replace(number=min(found.number, source.sample or found.number))


def table_rows(source: Source) -> Rows:
    """Count the rows of a table. Raises as `rows_of`."""
    if not (paths := sorted(glob(source.place, recursive=True))):
        raise ValueError(f"source.table '{source.table}': no such file; copy it there, or name another one")
    counts = [rows_in(source, path) for path in paths]
    exact = all(isinstance(one, int) for one in counts)
    return Rows(round(sum(counts)), f"{'counted' if exact else 'estimated'}, {source.place}")


def rows_in(source: Source, path: str) -> int | float:
    """Count the rows of a file: whole where that is exact, or a number with a point, by its first bytes. Raises as
    `rows_of`."""
    with naming(path):
        if path.endswith(".parquet"):
            return pq.read_metadata(path).num_rows
        if not path.endswith((*TEXT_FILES, ".jsonl")):
            raise ValueError(UNKNOWN.format(path))
        return lines_in(path, path.endswith(TEXT_FILES) and header(source, path, first_line(path)[0]) is None)


def lines_in(path: str, named: bool) -> int | float:
    """Count the lines of a file of text, as `rows_in`, without the first if that has names. Raises OSError, EOFError or
    zlib.error."""
    lines, end = -named, b"\n"
    with open(path, "rb") as raw, gzip.open(raw) if path.endswith(".gz") else raw as file:
        while raw.tell() < HEAD and (block := file.read(BLOCK)):
            lines, end = lines + block.count(b"\n"), block[-1:]
        return lines * os.path.getsize(path) / raw.tell() if file.read(1) else lines + (end != b"\n")


def samples(source: Source) -> Rows:
    """Count the samples of tars: by img2dataset's statistics beside them, and the others by how many the first of them
    has in its bytes. Raises as `rows_of`."""
    tars, faults = look_at(find_tars(source.place))
    if faults:
        raise ValueError(faults[0])
    known = [stated(place_of(one)) for one in tars]
    others = [tar for tar, count in zip(tars, known, strict=True) if not count]
    if not others:
        return Rows(sum(known), "counted, *_stats.json beside the tars")
    size = sum(one["bytes"] for one in others)
    return Rows(round(sum(known) + size * density(others, source)), f"estimated by {others[0]['path']}")


def density(tars: Sequence[dict[str, Any]], source: Source) -> float:
    """Return the pairs per byte of the first of the tars; of one elsewhere, of its first bytes."""
    place = place_of(tars[0])
    if isinstance(place, remote.RemoteFile):
        head = remote.beginning(place, HEAD)
        return count_pairs(head, source) / max(len(head), 1)
    with mapped(Path(place)) as content:
        return count_pairs(content, source) / max(len(content), 1)


def count_pairs(content: Any, source: Source) -> int:
    """Count the samples with an image and a caption in a tar's content, which may be cut."""
    return sum(is_pair(members, source) for members in find_samples(content).samples.values())
