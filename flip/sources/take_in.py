"""Find the samples in the tars of one part, in place of a download: no image is copied.

    python -m flip.sources.take_in --params specs/mine/params/clip.yaml --table data/mine/table/0000.parquet \\
        --out data/mine/download/0000.json

Beside the account lies, for each tar, where its images are, and their captions (flip.data.arrived reads both). What is
lost is counted; of a tar that is cut or damaged, what lies before that is taken, and the tar is named.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from mmap import mmap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from flip.config.frozen import load
from flip.config.schema import Source
from flip.data.arrived import IN_PLACE, TAR, place_of
from flip.data.tar_cache import TarCache, local
from flip.files import atomic, file_hash, known_hash, read_json, workspace, write_json
from flip.formats import layout
from flip.formats.foreign_tars import FoundSamples, Place, find_samples, mapped, numbered
from flip.formats.remote import RemoteFile
from flip.formats.texts import Texts

Members = dict[str, Place]
NO_MEMBERS = "no sample"
MOST = 10**9  # samples of a tar
DIGITS = 10  # of a class's number


@dataclass
class TakenTar:
    """Hold the rows (`IN_PLACE`) of a tar's samples, how many are lost under which class, and its fault, if any."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    fault: str | None = None


def image_kind(members: Members, source: Source) -> str | None:
    """Return the extension of a sample's image; of several, the first that `source.image_members` names."""
    return next((one for one in source.image_members if one in members), None)


def is_sample(members: Members, source: Source) -> bool:
    """Tell samples from other files of a tar: by an image, be its name unexpected, or a caption."""
    return any(
        one.rpartition(".")[2] in source.image_members or numbered(one, source.caption_member) is not None
        for one in members
    )


def captions_in(content: mmap | bytes, members: Members, source: Source) -> Texts:
    """Read the captions of a sample: of all its members that are captions, or of the keys of its JSON.

    Raises:
        UnicodeDecodeError: they are not UTF-8.
    """
    own, keys = [], source.further_captions
    if source.caption_member == "json":
        keys = [source.caption_column, *keys]
    elif source.classes:
        own = captions_of_class(source.classes, text_of(content, members["cls"]) if "cls" in members else "")
    else:
        there = {number: one for one in members if (number := numbered(one, source.caption_member)) is not None}
        own = [text_of(content, members[there[number]]) for number in sorted(there)]
    values = json_of(content, members) if keys or source.synthetic_captions else {}
    own += [one for key in keys for one in texts_in(values.get(key))]
    return Texts(own, [one for key in source.synthetic_captions for one in texts_in(values.get(key))])


@cache
def class_captions(folder: str) -> list[list[str]]:
    """Read the captions of each class: its name, in each template if there are templates.

    Raises:
        ValueError: classnames.txt is missing, or a file cannot be read.
    """
    if not (Path(folder) / layout.NAMES).is_file():
        raise ValueError(
            f"source.classes '{folder}': no {layout.NAMES}, which has a class's name in each line; put it there"
        )
    templates = layout.prompts(Path(folder)) if (Path(folder) / layout.PROMPTS).exists() else [layout.FIELD]
    return [[one.replace(layout.FIELD, name) for one in templates] for name in layout.class_names(Path(folder))]


def captions_of_class(folder: str, number: str) -> list[str]:
    """Return the captions of the class of this number; none where it is no number of a class."""
    every, number = class_captions(folder), number.strip()
    return every[int(number)] if number.isdecimal() and len(number) < DIGITS and int(number) < len(every) else []


def text_of(content: mmap | bytes, place: Place) -> str:
    """Read a member. Raises UnicodeDecodeError."""
    return content[place[0] : place[0] + place[1]].decode()


def json_of(content: mmap | bytes, members: Members) -> dict[str, Any]:
    """Read the object in a sample's .json; an empty one where there is none."""
    text = text_of(content, members["json"]) if "json" in members else ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # of whole numbers, too, with more digits than Python reads
        return {}
    return found if isinstance(found, dict) else {}


def texts_in(value: Any) -> list[str]:
    """Return the text, or the texts in a list, that are a value of JSON."""
    several = value if isinstance(value, list) else [value]
    return [whole(one) for one in several if isinstance(one, str)]


def whole(text: str) -> str:
    """Replace halves of characters, which JSON may hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def judge(content: mmap | bytes, members: Members, source: Source) -> dict[str, Any] | str:
    """Return image and captions of a sample, as `IN_PLACE` has them, or the class that it is lost under."""
    if (kind := image_kind(members, source)) is None:
        return "no image"
    try:
        texts = captions_in(content, members, source)
    except UnicodeDecodeError:
        return "caption not UTF-8"
    offset, size = members[kind]
    found = {"kind": kind, "offset": offset, "size": size, "captions": texts.own, "synthetic": texts.synthetic}
    return found if texts.all else "no caption"


def stated(tar: Path | RemoteFile) -> int:
    """Return how many samples img2dataset's statistics beside a tar on a disk say that it has; 0 where there are
    none."""
    if isinstance(tar, RemoteFile):
        return 0
    try:
        count = read_json(tar.with_name(f"{tar.stem}_stats.json"))["successes"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return 0
    return count if type(count) is int and 0 < count < MOST else 0


def take(content: mmap | bytes, found: FoundSamples, source: Source, stated: int) -> TakenTar:
    """Take the samples of a tar, by key, of which others have stated that there are so many."""
    taken = TakenTar(fault=found.fault)
    for key, members in sorted(found.samples.items()):
        if not is_sample(members, source) and key != found.cut:
            continue
        verdict = judge(content, members, source)
        if isinstance(verdict, str):
            taken.lost["cut off" if key == found.cut else verdict] += 1
        else:
            taken.rows.append({"key": key} | verdict)
    if twice := sum(found.doubled[one] for one in source.image_members):
        taken.lost["key twice"] += twice
    known = len(taken.rows) + taken.lost.total()
    if found.fault and stated > known:
        taken.lost["cut off"] += stated - known
    if not known:
        taken.fault = f"{found.fault or 'it is whole'}, {NO_MEMBERS}"
    return taken


def write_tar(row: dict[str, Any], out: Path, source: Source) -> dict[str, Any]:
    """Write the samples of a tar to `out`; return its account, which the file has, too."""
    place = place_of(row)
    with local(place, TarCache(source.cache).hold) as tar:
        with mapped(tar) as content:
            taken = take(content, find_samples(content), source, stated(place))
        digest = file_hash(tar) if isinstance(place, RemoteFile) else known_hash(tar)
        if tar.stat().st_size != row["bytes"]:
            raise ValueError(f"{row['path']}: changed since it was listed; run the pipeline again")
    account = {"path": row["path"], "bytes": row["bytes"], "sha256": digest, "samples": len(taken.rows)}
    account |= {"lost": taken.lost, "fault": taken.fault}
    # Of a tar on a disk, times change where contents do not.
    account |= {"version": place.version} if isinstance(place, RemoteFile) else {}
    with atomic(out) as file:
        schema = IN_PLACE.with_metadata({TAR: json.dumps(account)})
        pq.write_table(pa.Table.from_pylist(taken.rows, schema=schema), file)
    return account


def accounts(rows: list[dict[str, Any]], folder: Path, source: Source) -> Iterator[dict[str, Any]]:
    """Yield the account of each tar, with the hash of what is listed of it; those of an attempt that was interrupted
    are not made again."""
    for number, row in enumerate(tqdm(rows, desc="tars", unit="tar", disable=None)):
        out = folder / f"{number:05d}.parquet"
        account = json.loads(pq.read_schema(out).metadata[TAR]) if out.exists() else write_tar(row, out, source)
        yield account | {"listed": file_hash(out)}


def made_from(source: Source, table: str | Path) -> str:
    """Return what the lists of a part's tars depend on."""
    named = f" {class_captions(source.classes)}" if source.classes else ""
    return f"{file_hash(table)} {source.model_dump_json(exclude={'cache', 'several', 'classes'})}{named}"


def take_in(source: Source, table: str | Path, out: str | Path) -> dict[str, Any]:
    """Write the samples of a part's tars to the folder beside `out`, and the account to `out`; return it.

    Raises:
        ValueError: there is no sample with an image and a caption, or a tar has changed.
    """
    out, rows = Path(out), pq.read_table(table).to_pylist()
    folder = workspace(out.with_suffix(""), made_from(source, table))
    tars, lost = [], Counter[str]()
    for one in accounts(rows, folder, source):
        lost.update(one.pop("lost"))
        tars.append(one)
    arrived = sum(one["samples"] for one in tars)
    for fault in (faults := [f"{one['path']}: {one['fault']}" for one in tars if one["fault"]]):
        print(fault, file=sys.stderr)
    if not arrived:
        causes = ", ".join(f"{count} {name}" for name, count in lost.items()) or "; ".join(faults[:3])
        raise ValueError(f"{table}: no sample in {len(tars)} tars, as {tars[0]['path']} ({causes}); see source.shards")
    account = {"wanted": arrived + lost.total(), "arrived": arrived, "failed": dict(sorted(lost.items())), "tars": tars}
    write_json(out, account)
    return account


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.sources.take_in", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--table", required=True, help="one part of the list of tars")
    parser.add_argument("--out", required=True, help="the account (JSON); where images are goes to the folder beside")
    options = parser.parse_args(argv)
    try:
        account = take_in(load(options.params).source, options.table, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{account['arrived']} of {account['wanted']} samples in {len(account['tars'])} tars")


if __name__ == "__main__":
    main()
