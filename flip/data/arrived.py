"""Read what has arrived of a part: images that were downloaded or packed into tars of its folder, or that stay in the
tars of others, which its folder then only points into."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from flip.data.shard_index import image_kind
from flip.formats.remote import RemoteFile, is_remote
from flip.formats.tar_members import members
from flip.formats.texts import Texts, split

# Of a tar of others; its schema's metadata has its account (JSON) under TAR.
IN_PLACE = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("captions", pa.list_(pa.string())),
        ("synthetic", pa.list_(pa.string())),
    ]
)
TAR = b"tar"


class Arrived(NamedTuple):
    """Describe a sample: its key, unique in the data; where it is from; SHA-256 of the image's bytes as it came
    (hexadecimal; None: as it is stored); kind (extension), offset and size of the image in the tar; its captions."""

    key: str
    url: str
    sha256: str | None
    kind: str
    place: tuple[int, int]
    captions: Texts


class ArrivedTar(NamedTuple):
    """Hold a tar's place and its samples, by key. `account` says what else is known of one that stays in place."""

    path: Path | RemoteFile
    samples: list[Arrived]
    account: dict[str, Any] | None = None


def arrived(download: str | Path) -> Iterator[ArrivedTar]:
    """Yield the tars of a part with their samples; `download` is its account, beside its folder.

    Raises:
        ValueError: a tar of the folder is truncated.
    """
    for listed in sorted(Path(download).with_suffix("").glob("*.parquet")):
        yield arrived_tar(listed)


def arrived_tar(listed: Path) -> ArrivedTar:
    """Return a tar of a part with its samples, by its list in the part's folder. Raises ValueError as `arrived`."""
    in_place = TAR in (pq.read_schema(listed).metadata or {})
    return (_in_place if in_place else _in_folder)(listed, listed.parent.name)


def _in_folder(listed: Path, part: str) -> ArrivedTar:
    tar, rows = listed.with_suffix(".tar"), pq.read_table(listed, columns=["key", "url", "sha256"]).to_pylist()
    known, samples = {row["key"]: row for row in rows}, []
    with open(tar, "rb") as file:
        for key, places in sorted(members(tar).items()):
            row, kind = known[key], image_kind(places)
            file.seek((text := places.get("txt", (0, 0)))[0])
            captions = split(file.read(text[1]).decode())
            samples.append(Arrived(f"{part}-{key}", row["url"], row["sha256"], kind, places[kind], captions))
    return ArrivedTar(tar, samples)


def _in_place(listed: Path, part: str) -> ArrivedTar:
    table = pq.read_table(listed)
    account = json.loads(table.schema.metadata[TAR])
    samples = [
        Arrived(
            f"{part}-{listed.stem}-{number:07d}", f"{account['path']}#{row['key']}", None, row["kind"],
            (row["offset"], row["size"]), Texts(row["captions"], row["synthetic"]),
        )
        for number, row in enumerate(table.to_pylist())
    ]  # fmt: skip
    return ArrivedTar(place_of(account), samples, account)


def place_of(account: dict[str, Any]) -> Path | RemoteFile:
    """Return where the tar of an account is."""
    path = account["path"]
    if not is_remote(path):
        return Path(path)
    return RemoteFile(path, account["bytes"], account["version"], account.get("sha256"))
