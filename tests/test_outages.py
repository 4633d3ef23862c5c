"""A download survives what servers, tables and kernels do to it: real img2dataset over real HTTP on this machine."""

import io
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flip.config.frozen import dump
from flip.data import fingerprints
from flip.data.arrived import arrived
from flip.download import crawl, retry
from flip.download import part as download
from flip.download.shards import DownloadShards
from flip.formats.tar_members import members
from flip.sources import table
from flip.sources.images import MORE
from flip.synthetic import server as serve
from flip.synthetic import world
from flip.synthetic.table import batches
from tests.layouts import photo
from tests.sites import site

pytestmark = pytest.mark.long(2)

PHOTO = (200, {}, photo(1))


@pytest.fixture
def part(change, tmp_path, monkeypatch):
    """part(urls, captions, **download): parameters and table of one part; the account goes to download/0000.json."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def made(urls, captions=None, **options):
        rows = {"url": urls, "caption": captions or ["a boat"] * len(urls)}
        pq.write_table(pa.table(rows), tmp_path / "theirs.parquet")
        delta = {"parts": 1, "processes": 1, "timeout": 5, "retries": 0, "private_addresses": True, "least_share": 0.5}
        params = change(
            delta={"source": {"table": str(tmp_path / "theirs.parquet")}, "download": delta | {"threads": 8} | options}
        )
        (tmp_path / "params.yaml").write_text(dump(params))
        table.write_parts(params, tmp_path / "table")
        return params

    return made


def run(tmp_path, params, **options):
    return download.download(params, tmp_path / "table/0000.parquet", tmp_path / "download/0000.json", **options)


def test_what_an_outage_has_cost_arrives_when_the_same_command_runs_again(part, tmp_path):
    """80 of 100 rows answer 503, and the stage stops; later 70 of these arrive, and 10 can be asked again."""
    down = set(range(20, 100))
    pages = {f"/{row}": lambda row=row: (503, {}, b"") if row in down else PHOTO for row in range(100)}
    with site(pages) as server:
        params = part([f"{server.url}/{row}" for row in range(100)], samples_per_shard=40)
        with pytest.raises(ValueError, match=r"20 of 100 images arrived, below .*least_share = 0.5 \(80 server busy\)"):
            run(tmp_path, params)
        assert not (tmp_path / "download/0000.json").exists()
        down -= set(range(30, 100))
        account = run(tmp_path, params)
        assert account == {"wanted": 100, "arrived": 90, "failed": {"server busy": 10}}
        asked = len(server.asked)
        assert run(tmp_path, params) == account
        assert len(server.asked) == asked
    fingerprints.main(["--download", str(tmp_path / "download/0000.json"), "--out", str(tmp_path / "known.parquet")])
    known = pq.read_table(tmp_path / "known.parquet")
    assert sorted(int(url.rpartition("/")[2]) for url in known["url"].to_pylist()) == sorted(set(range(100)) - down)
    assert len(set(known["key"].to_pylist())) == 90


def test_rows_of_one_url_are_captions_of_one_image_which_is_asked_for_once(part, tmp_path):
    """In every part; what does not arrive is counted once, all other rows as further captions."""
    pages = {f"/{number}": PHOTO for number in range(6)}
    with site(pages) as server:
        urls = [f"{server.url}/{number}" for number in range(8) for _ in range(1 + number % 3)]
        texts = [f"words {number}" for number in range(len(urls))]
        params = part(urls, texts, parts=2)
        accounts = [
            download.download(params, tmp_path / f"table/{one}.parquet", tmp_path / f"download/{one}.json")
            for one in ("0000", "0001")
        ]
        assert Counter(server.asked)[f"{server.url}/1"] <= 1
    total = sum((Counter(one["failed"]) for one in accounts), Counter())
    assert total == {"not found": 2, MORE: len(urls) - 8}
    assert sum(one["arrived"] for one in accounts) == 6
    found = {}
    for one in ("0000", "0001"):
        for tar in arrived(tmp_path / f"download/{one}.json"):
            found |= {sample.url: sample.captions.own for sample in tar.samples}
    expected = {}
    for url, text in zip(urls, texts, strict=True):
        expected.setdefault(url, []).append(text)
    assert found == {url: said for url, said in expected.items() if int(url.rpartition("/")[2]) < 6}


def test_a_retry_opens_the_parts_that_have_something_to_ask_for_again(part, tmp_path):
    """Of two parts, whose shards are written here as img2dataset writes them."""
    part([f"http://h/{row}" for row in range(20)], samples_per_shard=20, parts=2)
    failures = ["<urlopen error timed out>", "HTTP Error 404: Not Found", "HTTP Error 503: Busy", "success"]
    tables = [pq.read_table(tmp_path / f"table/{number:04d}.parquet") for number in range(2)]
    for number, (rows, outcomes) in enumerate(zip(tables, (failures, failures[1::2]), strict=True)):
        shards = DownloadShards(tmp_path / f"download/{number:04d}", 20)
        shards.folder.mkdir(parents=True)
        shards.begin(tmp_path / f"table/{number:04d}.parquet", None)
        said = [outcomes[place % len(outcomes)] for place in range(len(rows))]
        status = ["success" if one == "success" else "failed_to_download" for one in said]
        message = [None if one == "success" else one for one in said]
        pq.write_table(
            pa.table({"row": rows["row"], "status": status, "error_message": message}), shards.path(0, ".parquet")
        )
        for path in (tmp_path / f"download/{number:04d}.json", tmp_path / f"{number:04d}.receipt"):
            path.write_text("{}")
    words = ["--params", tmp_path / "params.yaml", "--downloads", *sorted(tmp_path.glob("download/*.json"))]
    words += ["--receipts", *sorted(tmp_path.glob("*.receipt"))]
    retry.main([str(word) for word in words])
    assert [path.name for path in tmp_path.glob("*.receipt")] == ["0001.receipt"]
    assert [path.name for path in tmp_path.glob("download/*.json")] == ["0001.json"]
    again, asked = DownloadShards(tmp_path / "download/0000", 20), tables[0]["url"].to_pylist()
    assert again.sizes() == [len(asked), len(asked[::2])]
    assert pq.read_table(again.tables()[1])["url"].to_pylist() == asked[::2]


def tree() -> list[psutil.Process]:
    """All processes below this one, but those of pytest itself."""
    return [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


def depth(process: psutil.Process) -> int:
    return [one.pid for one in process.parents()].index(os.getpid())


def test_killed_processes_and_unreadable_rows_cost_nothing_else(part, tmp_path):
    """The kernel kills img2dataset's worker and logger, later img2dataset itself; captions are no UTF-8."""
    before, killed = tree(), []

    def kill(level):
        """Answers the first request after killing the processes of a level: 0 img2dataset, 2 its worker and logger."""

        def answer():
            if level not in killed:
                killed.append(level)
                for one in tree():
                    if one not in before and depth(one) == level:
                        one.kill()
            return PHOTO

        return answer

    words = [b"a boat"] * 30
    words[3], words[13], words[23] = b"caf\xe9", b"a\0b", b"\xed\xa0\x80"
    with site({"/5": kill(2), "/15": kill(0), "*": PHOTO, "/robots.txt": (404, {}, b"")}) as server:
        captions = pa.array(words, pa.binary()).view(pa.string())
        params = part([f"{server.url}/{row}" for row in range(30)], captions, samples_per_shard=9, threads=1, retries=1)
        account = run(tmp_path, params, log=tmp_path / "log")
    assert account == {"wanted": 30, "arrived": 27, "failed": {"unreadable text": 3}}
    assert killed == [2, 0]
    assert [one for one in tree() if one not in before] == []
    assert "ended with -9" in (tmp_path / "log").read_text()
    stored = [key for tar in (tmp_path / "download/0000").glob("*.tar") for key in members(tar)]
    assert len(stored) == len(set(stored)) == 27


def test_what_is_killed_every_time_is_given_up_with_the_true_line_of_the_log(part, tmp_path, monkeypatch):
    log = tmp_path / "log"

    def fetch(params, shards, log, proxy):
        lines = "OSError: [Errno 28] No space left on device", "total - success: 0.1 - failed to download: 0.9", "3it"
        log.write_text("\n".join(lines))
        return -9

    monkeypatch.setattr(crawl, "fetch", fetch)
    params = part(["http://h/1", "http://h/2"])
    with pytest.raises(
        ValueError, match=r"left 1 of 1 shards unfinished \(OSError: \[Errno 28\] No space left on device\)"
    ):
        run(tmp_path, params, log=log)


class Standing:
    """Downloads a shard at the second attempt; the first one stands still after it has begun to write."""

    def __init__(self, folder):
        self.output_folder = str(folder)

    def __call__(self, shard):
        path = Path(self.output_folder) / f"{shard[0]:05d}.tar"
        if not path.exists():
            path.write_text("begun")
            time.sleep(600)


@pytest.mark.filterwarnings("ignore")
def test_a_shard_that_stands_still_is_given_up_and_handed_out_again(tmp_path, monkeypatch):
    from flip.download import workers

    monkeypatch.setattr(workers, "FORKED", get_context("fork"))
    pool = workers.ShardProcesses(1.5, 2, maxtasksperchild=5)
    shards = [(0, "a"), (1, "b"), (2, "c")]
    (tmp_path / "00002.tar").write_text("whole")
    results = dict(reversed(one) for one in pool.imap_unordered(Standing(tmp_path), shards))
    assert results == {(0, "a"): False, (1, "b"): False, (2, "c"): True}
    assert all(done for done, _ in pool.imap_unordered(Standing(tmp_path), shards))


def bomb(side) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


def header(side) -> bytes:
    """The beginning of a JPEG that claims to be large."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    return file.getvalue().replace(b"\x00\x10\x00\x10\x03", side.to_bytes(2) * 2 + b"\x03")[:675]


def test_bombs_stay_within_the_memory_of_the_stage(part, tmp_path):
    """By what the processes of the stage hold at once, in resident pages, shared ones counted for each."""
    peak, done = [0], threading.Event()

    def watch():
        while not done.wait(0.05):
            held = 0
            for one in tree():
                try:
                    held += one.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], held)

    long = (200, {}, photo(1) + b"\0" * 3_000_000)
    found = {
        "png": (200, {}, bomb(8000)),
        "jpeg": (200, {}, header(65_000)),
        "large": (200, {}, bomb(7000)),
        "long": long,
    }
    kinds = [kind for kind in ("png", "jpeg", "long") for _ in range(40)] + ["large"] * 2
    pages = {f"/{number}": found[kind] for number, kind in enumerate(kinds)}
    thread = threading.Thread(target=watch)
    thread.start()
    with site(pages) as server:
        urls = [server.url + path for path in pages]
        params = part(urls, processes=2, threads=16, samples_per_shard=61, least_share=0.0)
        account = run(tmp_path, params)
    done.set()
    thread.join()
    assert account["arrived"] == 42
    assert account["failed"] == {"too many pixels": 80}
    assert peak[0] / 1e6 < params.resources.data.memory_mb, f"{peak[0] / 1e6:.0f} MB"


@pytest.mark.parametrize("parts", [1, 2])
def test_hosts_are_asked_as_they_wish(parts, change, tmp_path):
    """By the log of the world's server: nothing that robots.txt forbids, few requests at once of all parts that run at
    once, no browser's name."""
    faults = dict.fromkeys(change().world.faults.model_dump(), 0.0) | {"disallowed": 0.1, "busy": 0.05}
    wanted = {"images": 120, "faults": faults, "duplicates": 0.0, "leaked": 0.0}
    options = {"parts": parts, "at_once": 2, "processes": 2, "threads": 8, "per_host": 4, "samples_per_shard": 60}
    params = change(delta={"world": wanted, "download": options | {"timeout": 20}, "train": {"warmup_samples": 0}})
    table.write_parts(params, tmp_path / "table", batches)
    with open(tmp_path / "log", "w") as log, serve.server(params.world, 20, log=log) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def arrive(part: int) -> dict:
            name, proxy = f"{part:04d}", serve.address(server)
            return download.download(
                params, tmp_path / f"table/{name}.parquet", tmp_path / f"download/{name}.json", proxy=proxy
            )

        with ThreadPoolExecutor(parts) as pool:
            accounts = list(pool.map(arrive, range(parts)))
        server.shutdown()
    forbidden = [row for row in range(120) if world.fault(params.world, row) == "disallowed"]
    busy = [row for row in range(120) if world.fault(params.world, row) == "busy"]
    assert sum(one["arrived"] for one in accounts) == 120 - len(forbidden)
    assert sum((Counter(one["failed"]) for one in accounts), Counter()) == {"robots.txt": len(forbidden)}
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    asked = Counter(url for _, url in lines)
    assert forbidden
    assert busy
    assert not [url for url in asked if world.FORBIDDEN in url]
    assert max(int(at_once) for at_once, _ in lines) <= 4
    assert asked.pop(f"{world.HOST}robots.txt") == parts
    assert asked == {url: 2 if world.row_of(url) in busy else 1 for url in asked}


def test_other_captions_are_another_result_and_the_same_rows_the_same(part, tmp_path):
    """A receipt tells results apart by this file: equal counts must not hide that the data is other data."""
    written = []
    with site({f"/{row}": PHOTO for row in range(4)}) as server:
        urls = [f"{server.url}/{row}" for row in range(4)]
        for captions in (["a boat"] * 4, ["a boat"] * 4, ["a boat"] * 3 + ["a star"]):
            shutil.rmtree(tmp_path / "download", ignore_errors=True)
            run(tmp_path, part(urls, captions))
            written.append((tmp_path / "download/0000.json").read_bytes())
    assert written[0] == written[1] != written[2]
