"""JSON that others, disks or fingers have spoilt is read or refused in words that name its file."""

import json
import random
import tarfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest

from flip.config.kinds import pointing, vqa
from flip.provenance import receipt
from flip.sources import list_tars, take_in
from flip.testsets import mirror
from tests.layouts import photo

GOOD = [
    {"caption": "a boat", "url": "http://h/1"},
    {"box": [1, 2, 9, 9.5]},
    [{"question": "what is it?", "answers": ["a boat", "boat"]}],
    {"files": {"test/0.tar": {"bytes": 3, "sha256": "0" * 64}}, "splits": ["test"]},
    {"spec": {}, "made_from": {"after": {}}, "made": {}, "beside": {}, "scratch": False, "seal": "0"},
    {"successes": 3},
]
ODD = [None, True, -1, 1e999, 2**70, "", "\ud800", [], {}, [[]], {"a": None}, "x" * 3000, float("nan")]
NOISE = [b"[" * 100_000, b"9" * 5000, b"\xff\xfe", b"\0", b"<<<<<<< HEAD\n", b"\xef\xbb\xbf", b"NaN", b'"']


def places(value, path=()):
    """The paths of all values within a value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def replaced(value, path, new):
    """The value with another one at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def spoilt(rng: random.Random) -> bytes:
    """A JSON file of which a value is another one, or which is cut, or has noise within."""
    value = rng.choice(GOOD)
    if rng.random() < 0.7:
        value = replaced(value, rng.choice([*places(value)]), rng.choice(ODD))
    content = json.dumps(value).encode()
    place = rng.randrange(len(content) + 1)
    return rng.choice([content] * 4 + [content[:place], content[:place] + rng.choice(NOISE) + content[place:]])


def tar_of(path: Path, contents: list[bytes], *more: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, content in enumerate(contents):
            for kind, one in (("jpg", photo(0)), ("json", content), *more):
                member = tarfile.TarInfo(f"{number:03d}.{kind}")
                member.size = len(one)
                tar.addfile(member, BytesIO(one))
    return path


@pytest.fixture(scope="module")
def files():
    return [spoilt(random.Random(seed)) for seed in range(100)]


READERS = {
    "receipt": (receipt.read, "r.json"),
    "mirror": (lambda path: mirror.recorded(path.parent), mirror.RECORD),
    "questions": (lambda path: vqa.Vqa().notes({"json": path.read_bytes()}, str(path.with_suffix(""))), "0.json"),
    "box": (lambda path: list(pointing.samples(tar_of(path, [path.read_bytes()], ("txt", b"a boat")))), "0.tar"),
}


@pytest.mark.parametrize("name", READERS)
def test_100_json_files_are_read_or_refused_by_name(name, files, tmp_path):
    """Any error but a ValueError would be a traceback."""
    read, file = READERS[name]
    path, outcomes = tmp_path / file, Counter()
    for content in files:
        path.write_bytes(content)
        try:
            read(path)
        except ValueError as error:
            outcomes["refused" if str(tmp_path) in str(error) else f"{content[:80]}: {error}"] += 1
        else:
            outcomes["read"] += 1
    assert set(outcomes) <= {"read", "refused"}
    assert outcomes["refused"] > 50
    assert name == "receipt" or outcomes["read"]  # no receipt of here has a true seal


def test_100_json_files_beside_images_and_tars_are_counted(files, change, tmp_path):
    """Each as a sample's captions, and as statistics beside the tar; none but true ones count."""
    tar = tar_of(tmp_path / "0.tar", files)
    source = {"table": None, "shards": str(tar), "caption_member": "json", "caption_column": "caption"}
    params = change(delta={"source": source, "download": {"parts": 1}})
    list_tars.deal(params.source, [tmp_path / "table/0000.parquet"])
    account = take_in.take_in(params.source, tmp_path / "table/0000.parquet", tmp_path / "out.json")
    assert account["wanted"] == 100 == account["arrived"] + sum(account["failed"].values())
    assert account["failed"].keys() == {"no caption", "caption not UTF-8"}
    assert 0 < account["arrived"] < 30
    counts = set()
    for content in [*files, b'{"successes": 3}']:
        (tmp_path / "0_stats.json").write_bytes(content)
        counts.add(take_in.stated(tar))
    assert counts == {0, 3}
