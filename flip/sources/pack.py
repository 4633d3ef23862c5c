"""Pack the image files that one part of the table names into tars, in place of a download: byte for byte.

    python -m flip.sources.pack --params specs/mine/params/clip.yaml --table data/mine/table/0000.parquet \\
        --out data/mine/download/0000.json

Millions of small files are slow to open one by one in another order in each epoch, and no file system likes them; tars
are read in long stretches, and can be stored and moved. A name leads to no file outside the folder `source.images`.
"""

import argparse
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Params
from flip.files import atomic, file_hash, state, workspace, write_json
from flip.sources.images import MORE, by_image

SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "url", "caption", "sha256")])
LOST, STATES = b"lost", b"states"  # in the metadata of a list
LARGEST = 1 << 28  # bytes of an image file


class Lost(Exception):
    """Report the class that a row is lost under."""


def image_file(folder: Path, name: str) -> Path:
    """Find the file of a row; `folder` has no links in its path.

    Raises:
        Lost: there is none, or it lies outside the folder.
    """
    try:
        path = (folder / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # of names with a NUL, and of links in a circle
        raise Lost("no such file") from None
    if not path.is_relative_to(folder):
        raise Lost("outside source.images")
    if not path.is_file():
        raise Lost("no such file")
    if path.stat().st_size > LARGEST:
        raise Lost("too large")
    return path


def content_of(folder: Path, name: str) -> bytes:
    """Read the file of a row. Raises Lost as `image_file`."""
    try:
        return image_file(folder, name).read_bytes()
    except OSError:
        raise Lost("unreadable file") from None


def extension(name: str) -> str:
    """Return the extension of a file's name, in lower case, as a tar's member has it; img where it has none."""
    found = Path(name).suffix[1:].lower()
    return found if found.isalnum() and found.isascii() and found not in ("txt", "json") else "img"


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tar(path: Path, numbered: list[tuple[int, dict[str, Any]]], folder: Path) -> None:
    """Write rows with their numbers as a tar, and then its list."""
    listed, lost = [], Counter[str]()
    with atomic(path) as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for number, row in numbered:
            try:
                content = content_of(folder, row["url"])
            except Lost as error:
                lost[str(error)] += row["rows"]
                continue
            lost[MORE] += row["rows"] - 1
            key = f"{number:09d}"
            add(tar, f"{key}.{extension(row['url'])}", content)
            add(tar, f"{key}.txt", row["caption"].encode())
            listed.append(row | {"key": key, "sha256": sha256(content).hexdigest()})
    with atomic(path.with_suffix(".parquet")) as file:
        schema = SCHEMA.with_metadata({LOST: json.dumps(+lost), STATES: states(numbered, folder)})
        pq.write_table(pa.Table.from_pylist(listed, schema=schema), file)


def states(numbered: list[tuple[int, dict[str, Any]]], folder: Path) -> str:
    """Hash sizes and times of the rows' files, which tell whether a tar holds them as they are now."""
    found = []
    for _, row in numbered:
        try:
            found.append(state(image_file(folder, row["url"])))
        except Lost as error:
            found.append(str(error))
    return sha256("\n".join(found).encode()).hexdigest()


def is_written(listed: Path, numbered: list[tuple[int, dict[str, Any]]], folder: Path) -> bool:
    """Tell whether there is a tar, by its list, of these rows' files as they are now."""
    return listed.exists() and pq.read_schema(listed).metadata[STATES] == states(numbered, folder).encode()


def rows_of(table: Path, count: int) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Yield the image files of a part with their captions and numbers, `count` at a time, in the order of their first
    rows; memory holds the part's table."""
    files = by_image(pq.read_table(table, columns=["url", "caption", "row"]))
    for first in range(0, len(files), count):
        yield list(enumerate(files.slice(first, count).to_pylist(), first))


def counts_of(listed: Path) -> tuple[int, Counter[str]]:
    """Return how many samples a tar's list has, and how many are lost under which class."""
    with pq.ParquetFile(listed) as file:
        return file.metadata.num_rows, Counter(json.loads(file.schema_arrow.metadata[LOST]))


def pack(params: Params, table: str | Path, out: str | Path) -> dict[str, Any]:
    """Write tars of a part to the folder beside `out`, and the account to `out`; return it. What an interrupted attempt
    has written is kept.

    Raises:
        ValueError: there is no such folder, or none of the files is in it.
    """
    table, out, images = Path(table), Path(out), Path(params.source.images or "")
    if not images.is_dir():
        raise ValueError(f"source.images '{images}': no such folder; name the one that the table's paths begin in")
    per_shard = params.download.samples_per_shard
    folder = workspace(out.with_suffix(""), f"{file_hash(table)} {images} {per_shard}")
    arrived, lost = 0, Counter[str]()
    for number, rows in enumerate(tqdm(rows_of(table, per_shard), desc="files", unit="tar", disable=None)):
        path = folder / f"{number:05d}.tar"
        if not is_written(path.with_suffix(".parquet"), rows, images.resolve()):
            write_tar(path, rows, images.resolve())
        count, missing = counts_of(path.with_suffix(".parquet"))
        arrived, lost = arrived + count, lost + missing
    if not arrived:
        causes, row = ", ".join(f"{count} {name}" for name, count in lost.items()), rows[0][1]
        raise ValueError(
            f"{table}: no image file of {lost.total()} ({causes}), as '{row['url']}'; paths begin in source.images = "
            f"'{images}', and source.url_column names their column"
        )
    lists = [file_hash(path) for path in sorted(folder.glob("*.parquet"))]
    account = {"wanted": arrived + lost.total(), "arrived": arrived, "failed": dict(sorted(lost.items()))}
    write_json(out, account | {"lists": lists})
    return account


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.sources.pack", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--table", required=True, help="one part of the table of files")
    parser.add_argument("--out", required=True, help="the account (JSON); the tars go to the folder of its name")
    options = parser.parse_args(argv)
    try:
        account = pack(load(options.params), options.table, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{account['arrived']} of {account['wanted']} files packed")


if __name__ == "__main__":
    main()
