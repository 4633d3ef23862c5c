"""Proves that the URL table reads the formats of public data sets, keeps exactly what the filters and the sample ask
for, loses no row and names the key to change when it cannot go on."""

import gzip
import io
import json
import subprocess
import sys
from functools import partial
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip.files import read_json
from flip.plan.doctor import caught, source_faults
from flip.sources import sizes, table
from flip.sources.columns import UNREADABLE
from flip.synthetic.table import batches
from flip.synthetic.world import urls

URLS = [f"http://example.org/{number}.jpg" for number in range(6)]
CAPTIONS = ['a "quoted" caption', "null", "a, b", "snow", "été", "six"]


def rows_of(folder) -> list[dict]:
    """The rows of all parts, in the order of the source."""
    parts = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(parts).sort_by("row").to_pylist()


@pytest.fixture
def rows(change, tmp_path):
    """rows(source, parts): the rows that are left of a source."""

    def made(source, parts=1):
        params = change(
            delta={
                "source": source,
                "download": {"parts": parts},
                "world": {"images": 500},
                "train": {"warmup_samples": 0},
            }
        )
        read = table.files_batches if "table" in source else batches
        table.write_parts(params, tmp_path / "table", read)
        return rows_of(tmp_path / "table")

    return made


@pytest.fixture
def laion(tmp_path):
    """A table in LAION's layout; the last row passes every filter of these tests, each other row fails one."""
    columns = {
        "URL": URLS,
        "TEXT": CAPTIONS,
        "LANGUAGE": ["de", "en", "en", "en", None, "en"],
        "NSFW": ["UNLIKELY", "NSFW", "UNLIKELY", "UNLIKELY", "UNLIKELY", "UNSURE"],
        "similarity": [0.4, 0.4, 0.29, 0.4, 0.4, 0.3],
        "WIDTH": [100, 100, 100, 301, 100, 300],
        "HEIGHT": [100, 100, 100, 100, 100, 100],
    }
    pq.write_table(pa.table(columns), tmp_path / "laion.parquet")
    return {"table": str(tmp_path / "laion.parquet"), "url_column": "URL", "caption_column": "TEXT"}


def test_every_row_of_the_world_is_dealt_to_one_part(change, tmp_path):
    params = change(delta={"download": {"parts": 3}, "world": {"images": 500}, "train": {"warmup_samples": 0}})
    assert table.write_parts(params, tmp_path, batches) == {"rows": 500, "wanted": 500, "lost": {}}
    assert read_json(tmp_path / "account.json") == {"rows": 500, "wanted": 500, "lost": {}}
    assert [(row["url"], row["caption"]) for row in rows_of(tmp_path)] == list(urls(params.world))
    assert [row["row"] for row in rows_of(tmp_path)] == list(range(500))
    assert [len(pq.read_table(path)) for path in sorted(tmp_path.glob("*.parquet"))] == [167, 167, 166]


@pytest.mark.parametrize("swapped", [False, True], ids=["CC12M", "CC3M"])
@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_headless_tsv_shows_which_column_is_the_url(rows, tmp_path, swapped, suffix):
    pairs = list(zip(URLS, CAPTIONS, strict=True))
    text = "".join("\t".join(reversed(pair) if swapped else pair) + "\n" for pair in pairs)
    path = tmp_path / f"source{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    assert [(row["url"], row["caption"]) for row in rows({"table": str(path)})] == pairs


@pytest.mark.parametrize("letter", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_line_ends_end_a_line(rows, tmp_path, letter):
    """The caption of CC3M's first row shows where the URL stands, whatever letters are in it."""
    captions = [f"a{letter}b", f"{letter}c"]
    for end in ("\n", "\r\n"):
        text = "".join(f"{caption}\t{url}{end}" for caption, url in zip(captions, URLS[:2], strict=True))
        (tmp_path / "t.tsv").write_bytes(text.encode())
        found = [(row["caption"], row["url"]) for row in rows({"table": str(tmp_path / "t.tsv")})]
        assert found == list(zip(captions, URLS[:2], strict=True))


def test_several_files_are_one_table(rows, tmp_path):
    for number in range(2):
        text = "caption,url\n" + "".join(
            f'"{c.replace(chr(34), 2 * chr(34))}",{u}\n' for u, c in zip(URLS, CAPTIONS, strict=True)
        )
        (tmp_path / f"{number}.csv").write_text(text)
    found = rows({"table": str(tmp_path / "*.csv")}, parts=2)
    assert [row["caption"] for row in found] == CAPTIONS * 2
    assert [row["row"] for row in found] == list(range(12))


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"language": {"column": "LANGUAGE", "keep": ["en"]}}, [1, 2, 3, 5]),
        ({"unsafe": {"column": "NSFW", "keep": ["UNLIKELY", "UNSURE"]}}, [0, 2, 3, 4, 5]),
        ({"similarity": {"column": "similarity", "at_least": 0.3}}, [0, 1, 3, 4, 5]),
        ({"size": {"width_column": "WIDTH", "height_column": "HEIGHT", "max_aspect_ratio": 3.0}}, [0, 1, 2, 4, 5]),
        ({"size": {"width_column": "WIDTH", "height_column": "HEIGHT", "min_side": 100}}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_filters_keep_what_passes(rows, laion, filters, kept):
    found = rows(laion | {"filters": filters})
    assert [row["row"] for row in found] == kept
    assert [row["caption"] for row in found] == [CAPTIONS[row] for row in kept]


def test_each_row_that_is_left_out_is_counted_once(rows, laion, tmp_path):
    """Under the first filter that it fails, in two passes over the rows as in one."""
    filters = {
        "language": {"column": "LANGUAGE", "keep": ["en"]},
        "unsafe": {"column": "NSFW", "keep": ["UNLIKELY", "UNSURE"]},
        "similarity": {"column": "similarity", "at_least": 0.3},
        "size": {"width_column": "WIDTH", "height_column": "HEIGHT", "max_aspect_ratio": 3.0},
    }
    lost = {"filter: language": 2, "filter: unsafe": 1, "filter: similarity": 1, "filter: size": 1}
    for sample in (None, 1):
        assert [row["row"] for row in rows(laion | {"filters": filters, "sample": sample})] == [5]
        assert read_json(tmp_path / "table/account.json") == {"rows": 6, "wanted": 1, "lost": lost}
    rows(laion | {"filters": {"unsafe": filters["unsafe"]}, "sample": 2})
    account = {"rows": 6, "wanted": 2, "lost": {"filter: unsafe": 1, "not sampled": 3}}
    assert read_json(tmp_path / "table/account.json") == account
    with pytest.raises(ValueError, match=r"0 rows left .* \(lost: 4 filter: unsafe, 2 filter: language\); relax"):
        rows(laion | {"filters": filters | {"unsafe": {"column": "NSFW", "keep": ["none"]}}})


def test_the_counts_of_a_random_table_are_those_of_its_rows(rows, tmp_path):
    """As a loop over the rows finds them; nulls, and several batches, included."""
    random = np.random.default_rng(0)
    values = {
        "url": random.choice(np.array([None, "", "http://a"], object), 3000, p=[0.1, 0.1, 0.8]).tolist(),
        "caption": ["a"] * 3000,
        "lang": random.choice(np.array([None, "en", "de"], object), 3000).tolist(),
        "score": random.choice(np.array([None, 0.1, 0.5], object), 3000).tolist(),
    }
    pq.write_table(pa.table(values), tmp_path / "t.parquet", row_group_size=700)
    filters = {"language": {"column": "lang", "keep": ["en"]}, "similarity": {"column": "score", "at_least": 0.3}}
    rows({"table": str(tmp_path / "t.parquet"), "filters": filters})
    lost = {"no URL": 0, "filter: language": 0, "filter: similarity": 0}
    for url, lang, score in zip(values["url"], values["lang"], values["score"], strict=True):
        why = {"no URL": not url, "filter: language": lang != "en", "filter: similarity": score != 0.5}
        if first := next((name for name, fails in why.items() if fails), None):
            lost[first] += 1
    assert read_json(tmp_path / "table/account.json") == {
        "rows": 3000,
        "wanted": 3000 - sum(lost.values()),
        "lost": lost,
    }


def test_rows_without_url_are_no_rows(rows, tmp_path):
    pq.write_table(pa.table({"url": [URLS[0], None, ""], "caption": ["a", "b", "c"]}), tmp_path / "t.parquet")
    assert [row["caption"] for row in rows({"table": str(tmp_path / "t.parquet")})] == ["a"]


def test_sample_is_random_exact_and_nested(rows, monkeypatch):
    large = {row["row"] for row in rows({"sample": 200})}
    monkeypatch.setattr(table, "BATCH", 16)
    small = {row["row"] for row in rows({"sample": 50})}
    assert (len(large), len(small)) == (200, 50)
    assert small < large
    assert 150 < np.mean(sorted(small)) < 350
    assert len(rows({"sample": 501})) == 500


def test_pseudo_random_numbers_do_not_repeat():
    assert len(np.unique(table.scramble(np.arange(100_000)))) == 100_000


def test_missing_column_names_file_columns_and_key(rows, laion):
    with pytest.raises(ValueError, match=r"laion.parquet: no column 'url'; there are: URL, TEXT.*source.url_column"):
        rows(laion | {"url_column": "url"})
    similarity = {"similarity": {"column": "score", "at_least": 0.3}}
    with pytest.raises(ValueError, match=r"no column 'score'.*source.filters.similarity.column"):
        rows(laion | {"filters": similarity})
    with pytest.raises(ValueError, match=r"the world's URL table: no column 'score'"):
        rows({"filters": similarity})
    with pytest.raises(ValueError, match=r"no column 'sha'; there are.*source.sha256_column"):
        rows(laion | {"sha256_column": "sha"})


NAN = float("nan")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"caption": pa.array([NAN, 1.5])},
            "column 'caption' is double, not text; name another in source.caption_column",
        ),
        ({"caption": pa.array([1, 2])}, "column 'caption' is int64, not text"),
        ({"caption": pa.array([[1, 2], [3]])}, "column 'caption' is list<"),
        ({"caption": pa.array([{"en": "a"}, None])}, "column 'caption' is struct<"),
        ({"url": pa.array([["http://a"], []])}, "column 'url' is list<.*source.url_column"),
        ({"lang": pa.array([["en"], ["de"]])}, "column 'lang' is list<.*source.filters.language.column"),
        ({"lang": pa.array([1.0, NAN])}, "column 'lang' is double, not text"),
        ({"score": pa.array([[0.5], [0.1]])}, "column 'score' is list<.*not numbers.*source.filters.similarity.column"),
        ({"score": pa.array(["high", "0.5"])}, "column 'score': Failed to parse string: 'high'"),
    ],
)
def test_columns_of_another_type_name_file_and_column(rows, tmp_path, columns, said):
    there = {"url": URLS[:2], "caption": ["a", "b"], "lang": ["en", "de"], "score": [0.5, 0.1]} | columns
    pq.write_table(pa.table(there), tmp_path / "t.parquet")
    filters = {"language": {"column": "lang", "keep": ["en"]}, "similarity": {"column": "score", "at_least": 0.3}}
    with pytest.raises(ValueError, match=f"t.parquet: {said}") as error:
        rows({"table": str(tmp_path / "t.parquet"), "filters": filters})
    assert len(str(error.value).splitlines()) == 1


def test_text_may_be_stored_in_other_ways_and_filters_may_be_whole_numbers(rows, tmp_path):
    caption = pa.array(["a", None, "a"]).dictionary_encode()
    columns = {"url": pa.array(URLS[:3], pa.large_string()), "caption": caption, "sfw": [True, False, True]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    filters = {"unsafe": {"column": "sfw", "keep": ["true"]}}
    found = rows({"table": str(tmp_path / "t.parquet"), "filters": filters})
    assert [(row["url"], row["caption"]) for row in found] == [(URLS[0], "a"), (URLS[2], "a")]


def test_a_column_that_is_there_twice_is_named(rows, tmp_path):
    table_of = pa.Table.from_arrays(
        [pa.array(URLS), pa.array(CAPTIONS), pa.array(CAPTIONS)], ["url", "caption", "caption"]
    )
    pq.write_table(table_of, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("url,caption,caption\nhttp://a,b,c\n")
    for name in ("t.parquet", "t.csv"):
        with pytest.raises(
            ValueError, match=rf"{name}: 2 columns 'caption'; there are: url, caption, caption; set source"
        ):
            rows({"table": str(tmp_path / name)})


def test_hashes_of_a_sample_list_travel_with_their_rows(rows, tmp_path):
    for part in range(2):
        lines = {"key": URLS[:3], "url": URLS[3 * part :][:3], "caption": CAPTIONS[3 * part :][:3]}
        lines["sha256"] = [f"{3 * part + number:064X}" for number in range(10, 13)]
        (tmp_path / str(part)).mkdir()
        pq.write_table(pa.table(lines), tmp_path / str(part) / "samples.parquet")
    source = {"table": str(tmp_path / "*" / "samples.parquet")}
    found = rows(source | {"sha256_column": "sha256"}, parts=2)
    assert [(row["url"], row["caption"]) for row in found] == list(zip(URLS, CAPTIONS, strict=True))
    assert [row["sha256"] for row in found] == [f"{number:064x}" for number in range(10, 16)]
    assert "sha256" not in rows(source, parts=2)[0]


@pytest.mark.parametrize("value", ["d41d8cd98f00b204e9800998ecf8427e", "", None])
def test_what_is_no_hash_is_named(rows, tmp_path, value):
    pq.write_table(pa.table({"url": URLS[:2], "caption": ["a", "b"], "h": ["0" * 64, value]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=rf"source.sha256_column 'h': {value!r} is no SHA-256.*null to take"):
        rows({"table": str(tmp_path / "t.parquet"), "sha256_column": "h"})


@pytest.mark.parametrize("caption", ["\u2028star\u2028", "a\x0bb\x0cc\x85d", "nan"], ids=ascii)
def test_lines_of_a_table_end_at_line_feeds_only(rows, tmp_path, caption):
    (tmp_path / "t.tsv").write_bytes(f"{caption}\t{URLS[0]}\n\t{URLS[1]}\n".encode())
    (tmp_path / "t.csv").write_bytes(f'"{caption}\nand more",{URLS[0]}\n,{URLS[1]}\n'.encode())
    for name, wanted in {"t.tsv": caption, "t.csv": f"{caption}\nand more"}.items():
        found = [(row["url"], row["caption"]) for row in rows({"table": str(tmp_path / name)})]
        assert found == [(URLS[0], wanted), (URLS[1], None)]


def test_tsv_with_other_columns_is_no_headless_tsv(rows, tmp_path):
    (tmp_path / "t.tsv").write_text("text\tlink\nsnow\thttp://example.org/1.jpg\n")
    with pytest.raises(ValueError, match="no column 'url'; there are: text, link"):
        rows({"table": str(tmp_path / "t.tsv")})


def test_ragged_line_names_the_file(rows, tmp_path):
    (tmp_path / "t.tsv").write_text(f"{URLS[0]}\ta\n{URLS[1]}\tb\tc\n")
    with pytest.raises(ValueError, match=r"t.tsv: CSV parse error.*Expected 2 columns, got 3"):
        rows({"table": str(tmp_path / "t.tsv")})


def test_nothing_left_is_an_error_and_leaves_nothing(rows, laion, tmp_path):
    with pytest.raises(
        ValueError, match=r"0 rows left for download.parts = 1 \(lost: 6 filter: similarity\); relax source.filters"
    ):
        rows(laion | {"filters": {"similarity": {"column": "similarity", "at_least": 0.9}}})
    assert not list((tmp_path / "table").iterdir())
    with pytest.raises(ValueError, match="no such file"):
        rows({"table": str(tmp_path / "none*.parquet")})


# What strangers call a table


def odd_columns(random: Random) -> dict:
    """Columns of a table, most of them right."""
    texts = [b"a boat", b"caf\xe9", b"a\0b", b"\xed\xa0\x80", b"", None, b"\xff\xfe", "\u00e9\u2028".encode()]
    many = random.randrange(0, 12)
    some = pa.array([random.choice(texts) for _ in range(many)], pa.binary())
    text = random.choice([some, some.view(pa.string()), some.cast(pa.large_binary()), pa.nulls(many)])
    other = [
        pa.array([random.random() for _ in range(many)]),
        pa.array([[1, 2]] * many, pa.list_(pa.int64())),
        pa.array([{"a": "b"}] * many, pa.struct([("a", pa.string())])),
        pa.array(["b"] * many).dictionary_encode(),
        pa.array([2**70] * many, pa.decimal128(38)),
        pa.array([5] * many, pa.timestamp("ms")),
        pa.array([[("k", "v")]] * many, pa.map_(pa.string(), pa.string())),
    ]
    names = [random.choice(("url", "URL", "caption", "a\tb", "", "x")) for _ in range(random.randrange(3))]
    found = {"url": pa.array([f"http://h/{n}" for n in range(many)], pa.string()), "caption": text}
    found |= {name: random.choice([text, *other]) for name in names}
    return {name: found[name] for name in random.sample(list(found), random.choice([len(found)] * 3 + [1]))}


def odd_text(random: Random, kind: str) -> bytes:
    """Lines of a CSV or TSV, most of them right."""
    mark = random.choice([b"," if kind == ".csv" else b"\t"] * 9 + [b";"])
    pieces = [b"http://h/2"] * 9 + [
        b"http://h/1",
        b"a boat",
        b'"a',
        b'"a, b"',
        b"caf\xe9",
        b"\0",
        b"",
        b"\xef\xbb\xbfurl",
        b'""',
        b"a\r",
        b"7",
    ]
    lines = [mark.join(random.choice(pieces) for _ in range(random.choice([2] * 40 + [3, 1]))) for _ in range(9)]
    return random.choice([b"url" + mark + b"caption\n"] * 4 + [b"\xef\xbb\xbfurl,caption\n", b""]) + b"\n".join(lines)


def damaged(random: Random, content: bytes) -> bytes:
    """The content, or what a broken disk or line makes of it."""
    place = random.randrange(len(content) + 1)
    noise = random.randbytes(random.randrange(1, 9))
    return random.choice([content] * 6 + [content[:place], content[:place] + noise + content[place + 8 :], b"", noise])


def odd_lines(random: Random) -> bytes:
    """Lines of JSON, most of them right, alike in most files."""
    good = {"url": "http://h/1", "caption": "a"}
    odd = [
        {"url": 5, "caption": "x"},
        [],
        5,
        {},
        {"url": "a", "caption": "\ud800"},
        good | {"caption": ["a", None]},
        good,
    ]
    rows = [random.choice([good] if random.random() < 0.8 else odd) for _ in range(random.randrange(1, 6))]
    return b"\n".join(json.dumps(row).encode() for row in rows).replace(
        b"http", random.choice([b"http"] * 5 + [b"\xff"])
    )


def odd_file(random: Random, kind: str) -> bytes:
    """A table of a kind."""
    if kind == ".jsonl":
        return odd_lines(random)
    if kind == ".parquet":
        file = io.BytesIO()
        pq.write_table(pa.table(odd_columns(random)), file)
        return file.getvalue()
    return gzip.compress(odd_text(random, kind)) if kind.endswith("gz") else odd_text(random, kind)


def test_no_table_is_a_traceback_and_every_message_names_its_file(change, tmp_path):
    """150 tables, which are read, or refused by a ValueError; any other error would be a traceback. What looks at them
    before says no less."""
    outcomes = []
    for seed in range(150):
        random = Random(seed)
        kind = random.choice((".parquet", ".csv", ".tsv", ".tsv.gz", ".jsonl"))
        path = tmp_path / f"{seed}{kind}"
        path.write_bytes(damaged(random, odd_file(random, kind)))
        source = {"table": str(path), "sha256_column": random.choice((None, None, None, "x"))}
        params = change(delta={"source": source, "download": {"parts": 1}})
        for said in (*source_faults(params.source), *caught(partial(sizes.rows_of, params.source))):
            assert str(path) in said
        try:
            table.write_parts(params, tmp_path / str(seed))
        except ValueError as error:
            outcomes.append("refused" if str(path) in str(error) else f"{seed}: {error}")
            continue
        rows = rows_of(tmp_path / str(seed))
        assert all(isinstance(row["url"], str) and "\0" not in (row["caption"] or "") for row in rows), seed
        outcomes.append("unreadable" if any(row["url"] == UNREADABLE for row in rows) else "read")
    assert set(outcomes) == {"refused", "unreadable", "read"}
    assert min(map(outcomes.count, set(outcomes))) > 3


def test_thousands_of_parts_are_written_whatever_the_usual_limit_of_open_files():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500))\n"
        "from flip.sources.table import allow_open\n"
        "allow_open(300); assert resource.getrlimit(resource.RLIMIT_NOFILE) == (400, 500)\n"
        "try: allow_open(401)\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("download.parts = 401: as many files are written at once, and this system allows 500")
