"""List the tars of `source.shards`, in place of a table of URLs, and deal them to the parts: neighbours stay together,
so that the order of the data does not depend on the number of parts.

    python -m flip.sources.list_tars --params specs/mine/params/clip.yaml --out-folder data/mine/table

A part has path, size and time of each tar. One tar is looked into: names that no sample has are told here, and not
after hours.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from glob import glob
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flip.config.frozen import load
from flip.config.schema import Source
from flip.files import atomic, braced, write_json
from flip.formats.foreign_tars import FoundSamples, find_samples, mapped
from flip.sources.table import ACCOUNT, part_paths

SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("changed", pa.int64())])
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
LOOKED_INTO = 3  # tars at most, where the first ones have no members
NAMED = 5  # of a kind, in messages


def find_tars(pattern: str) -> list[str]:
    """List the tars of a path, a glob or ranges in braces, sorted within each glob.

    Raises:
        ValueError: a part of it names no file.
    """
    found = {one: sorted(glob(one, recursive=True)) or [one] * Path(one).is_file() for one in braced(pattern)}
    if missing := [one for one, paths in found.items() if not paths]:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"source.shards '{pattern}': no such file: {', '.join(missing[:NAMED])}{more}; copy what is missing, or "
            "name what there is"
        )
    return list(dict.fromkeys(path for paths in found.values() for path in paths))


def faults_of_files(paths: list[str]) -> Iterator[str]:
    """Find files that cannot be read in place."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                start = file.read(8)
        except OSError as error:
            yield f"{path}: {error.strerror}; mend or remove it"
            continue
        if kind := next((kind for mark, kind in COMPRESSED.items() if start.startswith(mark)), None):
            yield f"{path}: compressed ({kind}), so no image can be read in place; unpack it to a plain tar"


def samples_in(path: str) -> FoundSamples:
    """Find the samples of a tar."""
    with mapped(path) as content:
        return find_samples(content)


def fault_of_names(source: Source, paths: list[str]) -> str | None:
    """Return why the first tars have no sample with an image and a caption, by the extensions of their members."""
    there: Counter[str] = Counter()
    for path in paths[:LOOKED_INTO]:
        samples = samples_in(path).samples.values()
        there.update(extension for members in samples for extension in members)
        if any(source.caption_member in one and one.keys() & set(source.image_members) for one in samples):
            return None
    has = ", ".join(f"{count} .{extension}" for extension, count in there.most_common(NAMED)) or "no members"
    wanted = f".{' / .'.join(source.image_members)} and .{source.caption_member}"
    return (
        f"{paths[0]}: no sample has {wanted}; there are: {has}; set source.image_members, source.caption_member, or "
        "source.shards"
    )


def write_list(folder: str | Path, paths: list[str], parts: int) -> None:
    """Deal the tars to `<folder>/<part>.parquet`, neighbours to one part."""
    for part, out in enumerate(part_paths(folder, parts)):
        own = paths[part * len(paths) // parts : (part + 1) * len(paths) // parts]
        states = [Path(path).stat() for path in own]
        columns = [own, [one.st_size for one in states], [one.st_mtime_ns for one in states]]
        with atomic(out) as file:
            pq.write_table(pa.table(columns, schema=SCHEMA), file)


def deal(source: Source, folder: str | Path, parts: int) -> int:
    """Check and deal the tars; return their number.

    Raises:
        ValueError: with a line for each fault of the tars; or there are fewer than parts.
    """
    paths = find_tars(source.place)
    faults = list(faults_of_files(paths)) or list(filter(None, [fault_of_names(source, paths)]))
    if len(paths) < parts:
        faults.append(f"source.shards: {len(paths)} tars for download.parts = {parts}; lower download.parts")
    if faults:
        more = [f"and {len(faults) - 20} more like these"] if len(faults) > 20 else []
        raise ValueError("\n".join([*islice(faults, 20), *more]))
    write_list(folder, paths, parts)
    write_json(Path(folder) / ACCOUNT, {"tars": len(paths)})
    return len(paths)


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
        total = deal(params.source, options.out_folder, params.download.parts)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{total} tars in {params.download.parts} parts")


if __name__ == "__main__":
    main()
