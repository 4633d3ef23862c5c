"""Proves, with the real img2dataset over the world's failing web, that every row of a part arrives as what it is or is
counted under its failure, that a killed download continues to the same content, that the whole data path gives the same
data again, and that a list of its samples, downloaded elsewhere, gives the same pairs or says which have changed or
gone."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from glob import glob
from hashlib import sha256

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip.config.faults import check
from flip.config.frozen import dump, merge
from flip.config.schema import Params, Shards
from flip.data import fingerprints, manifest, samples, shards
from flip.data.pairs import NAME
from flip.download import crawl, failures
from flip.download import part as download
from flip.files import read_json
from flip.formats.tar_members import members
from flip.sources import table
from flip.synthetic import download as from_world
from flip.synthetic import world
from flip.synthetic.server import serving
from flip.synthetic.table import batches
from flip.testsets import fingerprints as of_sets
from tests.dropping import drop

pytestmark = pytest.mark.long(2)

FAULTS = {
    "not_found": 0.08, "forbidden": 0.05, "slow": 0.03, "reset": 0.04, "truncated": 0.06, "html": 0.04, "tiny": 0.04,
    "huge": 0.02,
}  # fmt: skip
CLASSES = {
    "not_found": "not found",
    "forbidden": "forbidden",
    "slow": "time-out",
    "reset": "connection",
    "html": "no readable image",
    "tiny": "too small",
}


@pytest.fixture(scope="module")
def params(change):
    return change(
        delta={
            "train": {"warmup_samples": 0},
            "world": {"images": 180, "faults": FAULTS, "duplicates": 0.2, "leaked": 0.0},
            # One process, so that shards are finished one after another and a kill comes between them.
            "download": {
                "parts": 2,
                "timeout": 6,
                "retries": 0,
                "samples_per_shard": 30,
                "threads": 8,
                "processes": 1,
            },
            "shards": {"samples_per_shard": 50},
        }
    )


@pytest.fixture(scope="module")
def data(params, tmp_path_factory):
    """A data folder with the table, part 0000 downloaded, and part 0001 downloaded after a kill -9 in the middle."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "params.yaml").write_text(dump(params))
    table.write_parts(params, folder / "table", batches)
    from_world.download(params, folder / "table" / "0000.parquet", folder / "download" / "0000.json")
    killed = kill_after_first_shard(folder)
    from_world.download(params, folder / "table" / "0001.parquet", folder / "download" / "0001.json")
    assert killed.items() <= states(folder).items()
    return folder


def states(folder) -> dict:
    """The finished shards of part 0001 and when they were finished."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "download" / "0001").glob("*_stats.json")}


def kill_after_first_shard(folder) -> dict:
    """Starts the download of part 0001, kills it once a shard of its three is finished, and gives what is finished."""
    command = [sys.executable, "-m", "flip.synthetic.download", "--params", str(folder / "params.yaml")]
    command += ["--table", str(folder / "table/0001.parquet"), "--out", str(folder / "download/0001.json")]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 300  # on a busy machine img2dataset takes a minute to start
        while not states(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        below = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    assert len(below) >= 4  # the world's server, img2dataset, what it forks from, and a shard
    assert psutil.wait_procs(below, timeout=10)[1] == []
    assert 0 < len(states(folder)) < 3
    assert not (folder / "download/0001.json").exists()
    return states(folder)


def rows(folder, part) -> list[dict]:
    """img2dataset's account of every row of a part."""
    return [
        row
        for path in sorted((folder / "download" / part).glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("part", [0, 1], ids=["in one go", "killed and continued"])
def test_every_row_arrives_as_what_it_is_or_is_counted(params, data, part):
    found = {row["row"]: row for row in rows(data, f"{part:04d}")}
    assert sorted(found) == list(range(part, 180, 2))
    expected = Counter()
    for row, entry in found.items():
        fault = world.fault(params.world, row)
        if fault in (None, "huge"):
            assert entry["status"] == "success"
            assert fault or entry["sha256"] == sha256(world.jpeg(params.world, row)).hexdigest()
            assert entry["caption"] == world.caption(params.world, row)
        else:
            # A cut image that admits its length is only found by decoding it, as a page is.
            cut = "no readable image" if row % 2 else "truncated"
            expected[CLASSES.get(fault, cut)] += 1
    account = read_json(data / "download" / f"{part:04d}.json")
    counts = {"wanted": 90, "arrived": 90 - expected.total(), "failed": dict(sorted(expected.items()))}
    assert account == counts | {"images": account["images"]}


def test_every_class_of_failure_appears(data):
    failed = [read_json(path)["failed"] for path in (data / "download").glob("*.json")]
    assert set().union(*failed) == {*CLASSES.values(), "truncated"}


def test_images_are_resized_and_keep_their_keys(params, data):
    folder = data / "download" / "0001"
    stored = {key for tar in folder.glob("*.tar") for key in members(tar)}
    arrived = [row for row in rows(data, "0001") if row["status"] == "success"]
    assert stored == {row["key"] for row in arrived}
    assert all(min(row["width"], row["height"]) <= params.download.image_size for row in arrived)
    # Shards are numbered, and so are rows in them: keys follow the table.
    assert [row["row"] for row in sorted(rows(data, "0001"), key=lambda row: row["key"])] == list(range(1, 180, 2))


def test_finished_download_is_not_repeated(params, data, monkeypatch):
    monkeypatch.setattr(crawl, "fetch", None)
    arguments = params, data / "table" / "0001.parquet", data / "download" / "0001.json"
    assert download.download(*arguments).items() <= read_json(data / "download" / "0001.json").items()


def test_messages_of_other_hosts_have_classes():
    messages = {
        "<urlopen error [Errno -2] Name or service not known>": "no such host",
        "<urlopen error [Errno -3] Temporary failure in name resolution>": "name server",
        "<urlopen error [Errno 111] Connection refused>": "refused connection",
        "<urlopen error [Errno 104] Connection reset by peer>": "connection",
        "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>": "certificate",
        "robots.txt: <urlopen error timed out>": "time-out",
        "robots.txt forbids it": "robots.txt",
        "HTTP Error 429: Too Many Requests": "server busy",
        "HTTP Error 503: Service Unavailable": "server busy",
        "<urlopen error timed out>": "time-out",
        "HTTP Error 410: Gone": "not found",
        "HTTP Error 500: Internal Server Error": "server error",
        "X-Robots-Tag forbids it": "opted out",
        "aspect ratio too large": "too elongated",
        "hash mismatch": "changed",
        "IncompleteRead(100 bytes read, 23 more expected)": "truncated",
    }
    assert {message: failures.failure(message) for message in messages} == messages


def run_to_manifest(data, out, only=None):
    """Fingerprints to manifest of the downloaded parts; no test sets."""
    accounts = sorted((data / "download").glob("*.json"))
    how = Shards(samples_per_shard=50, compact=None, buckets=1, only=only)
    out.mkdir(parents=True)
    fingerprints.write([], of_sets.TESTS, out / "tests.parquet")
    for account in accounts:
        fingerprints.main(["--download", str(account), "--out", str(out / f"{account.stem}.parquet")])
    hashes = [out / f"{account.stem}.parquet" for account in accounts]
    (dropped,) = drop(out, out / "tests.parquet", hashes)
    for account, known in zip(accounts, hashes, strict=True):
        shards.write_part(account, known, dropped, out / "shards" / account.name, how)
    return manifest.merge(list((out / "shards").glob("*.json")), data / "table/account.json")


def repeated(params, data) -> int:
    """Images that arrived after another one of the same origin, as the world itself knows."""
    arrived = [row["row"] for part in ("0000", "0001") for row in rows(data, part) if row["status"] == "success"]
    return len(arrived) - len({world.origin(params.world, row) for row in arrived})


def test_data_path_accounts_for_every_row_and_repeats_itself(params, data, tmp_path):
    first, ledger = run_to_manifest(data, tmp_path / "first")
    second, _ = run_to_manifest(data, tmp_path / "second")
    assert first["id"] == second["id"]
    total = ledger["total"]
    assert total["wanted"] == 180 == total["used"] + sum(total["lost"].values())
    found = total["lost"]["exact duplicate"] + total["lost"]["near duplicate"]
    assert found == repeated(params, data)
    assert first["samples"] == total["used"] == sum(shard["samples"] for shard in first["shards"])


def test_nothing_arrived_is_an_error_and_leaves_a_clean_start(params, tmp_path, monkeypatch, capsys):
    """A dead proxy instead of a dead network: what img2dataset then leaves is its own."""
    gone = params.model_copy(update={"source": params.source.model_copy(update={"table": "elsewhere"})})
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    (tmp_path / "params.yaml").write_text(dump(gone))
    table.write_parts(params, tmp_path / "table", batches)
    command = ["--params", str(tmp_path / "params.yaml"), "--table", str(tmp_path / "table/0000.parquet")]
    with pytest.raises(SystemExit):
        download.main([*command, "--out", str(tmp_path / "0000.json")])
    assert "no image arrived of 90 (90 refused connection)" in capsys.readouterr().err
    assert not list((tmp_path / "0000").glob("*_stats.json"))


# The same data elsewhere


@pytest.fixture(scope="module")
def here(data, tmp_path_factory):
    """The manifest of what the world's web gave, and the pattern of its lists."""
    folder = tmp_path_factory.mktemp("here") / "made"
    made, _ = run_to_manifest(data, folder)
    return made, str(folder / "shards" / "*" / NAME)


@pytest.fixture
def replay(params, tmp_path, monkeypatch):
    """replay(pattern of lists): the manifest and ledger of downloading them again, in other parts and quality."""

    def run(pattern):
        source = {"table": pattern, "sha256_column": "sha256"}
        # Nothing on the list is slow: the time-out is for a machine that has other things to do.
        other = {"download": {"parts": 1, "quality": 70, "samples_per_shard": 200, "timeout": 30}, "source": source}
        elsewhere = check(Params, merge(params.model_dump(mode="json"), other), "elsewhere")
        table.write_parts(elsewhere, tmp_path / "there" / "table")
        with serving(params.world, 30) as proxy:
            monkeypatch.setenv("http_proxy", proxy)
            account = tmp_path / "there" / "download" / "0000.json"
            download.download(elsewhere, tmp_path / "there" / "table" / "0000.parquet", account)
        return run_to_manifest(tmp_path / "there", tmp_path / "there" / "made")

    return run


def test_a_list_downloaded_elsewhere_gives_the_same_pairs(here, replay):
    made, pattern = here
    again, ledger = replay(pattern)
    assert ledger["total"] == dict.fromkeys(("rows", *manifest.COUNTS), made["samples"]) | {"lost": {}}
    assert again["pairs"] == made["pairs"]
    assert again["id"] != made["id"]  # the encoder's quality is another


def test_what_has_changed_or_gone_is_refused_counted_and_listed(params, data, here, replay, tmp_path):
    """Two recorded hashes are altered; two addresses lead to what the world's web does not find."""
    made, pattern = here
    rows = [row for path in sorted(glob(pattern)) for row in pq.read_table(path).to_pylist()]
    for row, digit in zip(rows[:2], "01", strict=True):
        row["sha256"] = digit * 64
    gone = [
        url
        for number, (url, _) in enumerate(world.urls(params.world))
        if world.fault(params.world, number) == "not_found"
    ]
    for row, url in zip(rows[2:4], gone, strict=False):
        row["url"] = url
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "theirs.parquet")
    again, ledger = replay(str(tmp_path / "theirs.parquet"))
    assert ledger["total"]["lost"] == {"changed": 2, "not found": 2}
    assert again["pairs"] != made["pairs"]
    have = str(tmp_path / "there" / "made" / "shards" / "*" / NAME)
    out = str(tmp_path / "missing.parquet")
    theirs, ours = [str(tmp_path / "theirs.parquet")], sorted(glob(have))
    assert samples.missing(theirs, ours, out) == {"wanted": len(rows), "there": len(rows) - 4, "missing": 4}
    missing = pq.read_table(out).to_pylist()
    assert sorted((row["key"], row["url"]) for row in missing) == sorted((row["key"], row["url"]) for row in rows[:4])
    # Restricted to what both have, the first site trains on the pairs of the second.
    both = str(tmp_path / "both.parquet")
    samples.intersect(sorted(glob(pattern)), ours, both)
    restricted, ledger = run_to_manifest(data, tmp_path / "restricted", both)
    assert restricted["pairs"] == again["pairs"]
    assert ledger["total"]["lost"]["not in shards.only"] == 4
