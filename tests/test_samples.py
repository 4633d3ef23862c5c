"""Proves that lists of samples are compared by image and caption, with what is missing and what is shared as rows
that can be used again, and that neither the number of spans nor that of files changes the answer."""

import json
import re
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip.data import samples
from flip.data.pairs import NAME, SCHEMA
from tests.commands import flip


def row(image, caption) -> dict:
    name = str(image)
    return {"key": name, "url": f"http://a/{name}", "caption": caption, "sha256": sha256(name.encode()).hexdigest()}


@pytest.fixture
def lists(tmp_path):
    """lists(name, rows, ...): a glob of one file per list of rows."""

    def make(name, *parts):
        for part, rows in enumerate(parts):
            path = tmp_path / name / str(part) / NAME
            path.parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
        return str(tmp_path / name / "*" / NAME)

    return make


OURS = [row(1, "a"), row(2, "b"), row(3, "c"), row(4, "d")]
# 3 with another caption, 4 at another address and with its hash in capitals, 5 in our list nowhere.
THEIRS = [row(2, "b"), row(3, "another"), row(4, "d") | {"url": "http://b/4", "key": "x"}, row(5, "e")]
THEIRS[2]["sha256"] = THEIRS[2]["sha256"].upper()


@pytest.mark.parametrize("span", [1, 1 << 25])
def test_intersection_is_by_image_and_caption(lists, tmp_path, monkeypatch, capsys, span):
    monkeypatch.setattr(samples, "SPAN", span)
    of, other = lists("ours", OURS[:3], OURS[3:]), lists("theirs", THEIRS)
    flip("samples", "intersect", "--of", of, "--with", other, "--out", tmp_path / "both.parquet")
    assert capsys.readouterr().out.split("\n")[:3] == [
        "             2  in both",
        "             2  only --of",
        "             2  only --with",
    ]
    found = pq.read_table(tmp_path / "both.parquet").to_pylist()
    assert sorted(found, key=lambda one: one["key"]) == [OURS[1], OURS[3]]


@pytest.mark.parametrize("span", [1, 1 << 25])
def test_what_is_missing_comes_with_its_address(lists, tmp_path, monkeypatch, capsys, span):
    monkeypatch.setattr(samples, "SPAN", span)
    wanted, have = lists("theirs", THEIRS), lists("ours", OURS)
    flip("samples", "missing", "--wanted", wanted, "--have", have, "--out", tmp_path / "missing.parquet")
    assert "4  wanted\n             2  there\n             2  missing" in capsys.readouterr().out
    found = pq.read_table(tmp_path / "missing.parquet").to_pylist()
    assert {(one["url"], one["caption"]) for one in found} == {("http://a/3", "another"), ("http://a/5", "e")}


def test_counts_need_no_output(lists, capsys):
    flip("samples", "missing", "--wanted", lists("ours", OURS), "--have", lists("none", []), "--json")
    assert json.loads(capsys.readouterr().out) == {"wanted": 4, "there": 0, "missing": 4}


def test_spans_hold_every_hash_once(lists, monkeypatch):
    monkeypatch.setattr(samples, "SPAN", 3)
    rows = [row(number, "x") for number in range(100)]
    path = [lists("all", rows).replace("*", "0")]
    found = samples.spans(path)
    assert len(found) == 34
    assert sum(len(samples.marks(path, span)) for span in found) == 100
    assert max(len(samples.marks(path, span)) for span in found) < 15


def test_membership_equals_a_set():
    random = np.random.default_rng(0)
    pairs = np.frombuffer(random.integers(0, 3, 16_000, dtype=np.uint8).tobytes(), "S2")
    assert samples.among(pairs[:4000], pairs[7990:]).tolist() == [pair in set(pairs[7990:]) for pair in pairs[:4000]]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--have", "none/*.parquet", r"--have 'none/\*.parquet': no such file"),
        ("--wanted", "short", r"--wanted: .*short.parquet has no column 'key' of text; there are: sha256 \(string\)"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(lists, tmp_path, capsys, option, value, message):
    pq.write_table(pa.table({"sha256": ["0" * 64], "caption": ["a"]}), tmp_path / "short.parquet")
    options = {"--wanted": lists("ours", OURS), "--have": lists("theirs", THEIRS)}
    options |= {option: str(tmp_path / "short.parquet") if value == "short" else value}
    words = (word for pair in options.items() for word in pair)
    flip("samples", "missing", *words, "--out", tmp_path / "out", code=1)
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
