"""List the tars of `source.shards`, in place of a table of URLs, and deal them to the parts: neighbours stay together,
so that the order of the data does not depend on the number of parts.

    python -m flip.sources.list_tars --params specs/mine/params/clip.yaml --out-folder data/mine/table

A part has path or URL of each tar, its size, and what tells its versions apart: a time, or what its server says. One
tar is looked into: names that no sample has are told here, and not after hours.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flip.config.faults import in_lines
from flip.config.frozen import load
from flip.config.schema import Source
from flip.data.arrived import place_of
from flip.data.tar_cache import TarCache, local
from flip.files import atomic, braced, write_json
from flip.formats import remote
from flip.formats.foreign_tars import FoundSamples, find_samples, mapped, numbered
from flip.sources.table import ACCOUNT, part_paths

SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("version", pa.string())])
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}
POINTER = b"version "  # with which a pointer of Git LFS begins
LOOKED_INTO = 3  # tars at most, where the first ones have no members
NAMED = 5  # of a kind, in messages

Row = dict[str, Any]  # of SCHEMA


def find_tars(pattern: str) -> list[str]:
    """List the tars of a path, a URL, a glob or ranges in braces, sorted within each glob.

    Raises:
        ValueError: a part of it names no file.
    """
    find = remote.find if remote.is_remote(pattern) else find_here
    found = {one: find(one) for one in braced(pattern)}
    if missing := [one for one, paths in found.items() if not paths]:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"source.shards '{pattern}': no such file: {', '.join(missing[:NAMED])}{more}; copy what is missing, or "
            "name what there is"
        )
    return list(dict.fromkeys(path for paths in found.values() for path in paths))


def find_here(pattern: str) -> list[str]:
    """List the files of a path or a glob, sorted; each once, though links lead to it."""
    found = sorted(glob(pattern, recursive=True)) or [pattern] * Path(pattern).is_file()
    return [*{os.path.realpath(path): path for path in reversed(found)}.values()][::-1]


def look_at(paths: list[str]) -> tuple[list[Row], list[str]]:
    """Return what the list says of each tar, and the faults of those that cannot be read."""
    found = remote.look_up(paths) if remote.is_remote(paths[0]) else map(look_here, paths)
    rows, faults = [], []
    for path, one in zip(paths, found, strict=True):
        if isinstance(one, str):
            faults.append(f"{path}: {one}; mend or remove it, or name what there is in source.shards")
        else:
            rows.append({"path": path, "bytes": one.size, "version": one.version})
    return rows, faults


def look_here(path: str) -> remote.RemoteFile | str:
    """Describe a tar on a disk, or say why it cannot be read in place."""
    if Path(path).exists() and not Path(path).is_file():  # to open a pipe is to wait for ever
        return "no file, but a folder or a device"
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        return str(error.strerror)
    if start == POINTER:
        return "a pointer of Git LFS; `git lfs pull` brings the tar"
    if kind := next((kind for mark, kind in COMPRESSED.items() if start.startswith(mark)), None):
        return f"compressed ({kind}), so no image can be read in place; unpack it to a plain tar"
    state = Path(path).stat()
    return remote.RemoteFile(path, state.st_size, str(state.st_mtime_ns))


def samples_in(row: Row, source: Source) -> FoundSamples:
    """Find the samples of a tar."""
    with local(place_of(row), TarCache(source.cache).hold) as path, mapped(path) as content:
        return find_samples(content)


def is_pair(members: Iterable[str], source: Source) -> bool:
    """Tell whether a sample has an image and a caption, by its members' extensions."""
    names = set(members)
    return not names.isdisjoint(source.image_members) and any(
        numbered(one, source.caption_member) is not None for one in names
    )


def fault_of_names(source: Source, rows: list[Row]) -> str | None:
    """Return why the first tars have no sample with an image and a caption, by the extensions of their members."""
    there: Counter[str] = Counter()
    for row in rows[:LOOKED_INTO]:
        samples = samples_in(row, source).samples.values()
        there.update(extension for members in samples for extension in members)
        if any(is_pair(members, source) for members in samples):
            return None
    has = ", ".join(f"{count} .{extension}" for extension, count in there.most_common(NAMED)) or "no members"
    wanted = f".{' / .'.join(source.image_members)} and .{source.caption_member}"
    return (
        f"{rows[0]['path']}: no sample has {wanted}; there are: {has}; set source.image_members, "
        "source.caption_member, or source.shards"
    )


def write_list(paths: list[Path], rows: list[Row]) -> None:
    """Deal the tars to the parts' files, neighbours to one part."""
    for part, out in enumerate(paths):
        own = rows[part * len(rows) // len(paths) : (part + 1) * len(rows) // len(paths)]
        with atomic(out) as file:
            pq.write_table(pa.Table.from_pylist(own, schema=SCHEMA), file)


def deal(source: Source, paths: list[Path]) -> dict[str, int]:
    """Check the tars and deal them to the files of parts; return their account.

    Raises:
        ValueError: with a line for each fault of the tars; or there are fewer than parts.
    """
    rows, faults = look_at(find_tars(source.place))
    if not faults and (fault := fault_of_names(source, rows)):
        faults = [fault]
    if len(rows) + len(faults) < len(paths):
        faults.append(f"source.shards: {len(rows)} tars for download.parts = {len(paths)}; lower download.parts")
    if faults:
        raise ValueError(in_lines(faults))
    write_list(paths, rows)
    return {"tars": len(rows)}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m flip.sources.list_tars", description="List the tars of the source."
    )
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--out-folder", required=True, help="where <part>.parquet go")
    options = parser.parse_args(argv)
    try:
        params = load(options.params)
        account = deal(params.source, part_paths(options.out_folder, params.download.parts))
        write_json(Path(options.out_folder) / ACCOUNT, account)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{account['tars']} tars in {params.download.parts} parts")


if __name__ == "__main__":
    main()
