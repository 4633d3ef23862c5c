"""Tars in a bucket or behind https give what the same tars on a disk give, whatever happens on the way; what is kept of
them never takes more room than it may."""

import hashlib
import os
import re
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from subprocess import Popen, run

import pytest
import torch

from flip.config.faults import ParameterError
from flip.config.schema import Cache
from flip.data.loader import ShardReader
from flip.data.tar_cache import TarCache
from flip.files import read_json
from flip.formats import remote
from flip.sources import elsewhere
from flip.sources.sizes import rows_of
from flip.train.step import build_loader
from tests.conftest import SMALL
from tests.hub import COMMIT, serving
from tests.layouts import classified, photo
from tests.loaders import pairs_loader
from tests.miniature import call, copy_workflow, planned, shrink, snakemake, write_params
from tests.own_data import arrive, finish
from tests.s3 import served
from tests.test_own_data import CROP, HOW, pair, source, tokens_of, write_table, write_tar  # noqa: F401  (a fixture)

pytestmark = pytest.mark.long(3)

TARS, EACH = 8, 6


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A bucket of tars, whose server fails as it is told to."""
    for number in range(TARS):
        members = [one for item in range(EACH) for one in pair(number * EACH + item)]
        write_tar(tmp_path / "store/bucket/in" / f"{number}.tar", members)
    with served(tmp_path / "store") as proxy:
        keys = {"ACCESS_KEY_ID": "name", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
        for name, value in (keys | {"ENDPOINT_URL": proxy.address}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        remote.filesystem("s3://").clear_instance_cache()
        monkeypatch.setattr(remote, "WAITS", [0.01] * 8)
        yield proxy


class Watched:
    """The most bytes that there ever are in a folder, as far as one looks."""

    def __init__(self, folder):
        self.folder, self.most, self.ended = folder, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.ended.wait(0.001):
            sizes = 0
            for path in self.folder.glob("*.*"):
                try:
                    sizes += path.stat().st_size
                except FileNotFoundError:
                    sizes += 0
            self.most = max(self.most, sizes)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def test_a_bucket_gives_what_a_disk_gives_and_a_restart_too_in_bounded_room(store, source, tmp_path):  # noqa: F811
    """Through 503s, cuts, answers that are short or slow."""
    here = source(2, shards=f"{tmp_path}/store/bucket/in")
    data, ledger = finish(arrive(here, tmp_path / "here"), tmp_path / "here", HOW)
    largest = max(entry["bytes"] for entry in data["shards"])
    cache = {"folder": str(tmp_path / "cache"), "gigabytes": 3.5 * largest / 1e9}
    faults = ["busy", "cut", "short", "slow", None, None]
    store.faults += faults * 2
    with Watched(tmp_path / "cache") as watched:
        there = source(2, shards="s3://bucket/in", cache=cache)
        elsewhere, same = finish(arrive(there, tmp_path / "there"), tmp_path / "there", HOW)
        assert (elsewhere["id"], same) == (data["id"], ledger)
        assert {entry["tar"] for entry in elsewhere["shards"]} == {f"s3://bucket/in/{n}.tar" for n in range(TARS)}
        tokens = tokens_of(tmp_path / "here", data)
        loader = pairs_loader(data, tmp_path / "here/shards", tokens, 32, CROP, 0, 1)
        expected = [loader.batch(start, 4) for start in range(0, 3 * TARS * EACH, 4)]
        for first in (0, 17):
            store.faults += faults * 2
            kept = TarCache(there.source.cache)
            other = pairs_loader(elsewhere, tmp_path / "there/shards", tokens, 32, CROP, 0, 1, cache=kept)
            found = other.batches(4 * first, 4, 2, 4)
            for one in expected[first:]:
                assert all(torch.equal(one[name], value) for name, value in next(found).items())
            found.close()
    assert 2 * largest < watched.most <= 3.5 * largest


def test_a_training_reads_by_weights_from_a_bucket_what_it_reads_from_a_disk(store, change, tmp_path):
    """At any position, so on any number of processes, and when it resumes."""
    loaders = []
    for name, place in (("here", f"{tmp_path}/store/bucket/in"), ("there", "s3://bucket/in")):
        several = {"a": {"shards": f"{place}/[0-5].tar"}, "b": {"shards": f"{place}/[67].tar"}}
        cache = {"folder": str(tmp_path / "cache"), "gigabytes": 1.0}
        values = {"source": {"table": None, "several": several, "cache": cache}, "download": {"parts": 2}}
        values |= {"train": SMALL["train"] | {"source_weights": {"b": 3.0}, "shuffle_shards": 1}}
        params = change("clip", SMALL | values)
        data, _ = finish(arrive(params, tmp_path / name), tmp_path / name, HOW)
        tokens_of(tmp_path / name, data)
        loaders.append(build_loader(params, tmp_path / name, data, 0))
    for start in (0, 8, 200, 16):
        here, there = (loader.batch(start, 8) for loader in loaders)
        assert all(torch.equal(here[name], value) for name, value in there.items())
    order = loaders[1].order
    sources = [data["shards"][order.locate(position)[0]]["source"] for position in range(600)]
    assert sources.count("a") == sources.count("b") == 300  # 36 samples, and 12 of weight 3


def files_of(store, tmp_path):
    found = remote.look_up([f"s3://bucket/in/{number}.tar" for number in range(TARS)])
    hashes = [hashlib.sha256((tmp_path / f"store/bucket/in/{n}.tar").read_bytes()).hexdigest() for n in range(TARS)]
    return [one._replace(sha256=digest) for one, digest in zip(found, hashes, strict=True)]


PROCESS = """
import random, sys
from hashlib import sha256
from flip.config.faults import ParameterError
from flip.config.schema import Cache
from flip.data.loader import ShardReader
from flip.data.tar_cache import TarCache
from flip.formats.remote import RemoteFile
folder, gigabytes, seed, *files = sys.argv[1:]
cache, files = TarCache(Cache(folder=folder, gigabytes=float(gigabytes))), [RemoteFile(*eval(one)) for one in files]
for file in random.Random(int(seed)).choices(files, k=3):
    held = cache.hold(file)
    assert sha256(held.path.read_bytes()).hexdigest() == file.sha256
    held.close()
"""


def test_processes_share_a_cache_that_has_no_room_for_all(store, tmp_path):
    files = files_of(store, tmp_path)
    room = int(2.5 * max(file.size for file in files))
    words = [str(tmp_path / "cache"), str(room / 1e9)]
    named = [repr(tuple(one)) for one in files]
    with Watched(tmp_path / "cache") as watched, Popen([sys.executable, "-c", PROCESS, *words, "1", *named]) as other:
        cache = TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=room / 1e9))
        while other.poll() is None:
            for file in files:
                cache.hold(file).close()
    assert other.returncode == 0
    assert watched.most <= room
    assert len(store.asked) > TARS


def test_what_many_ask_for_at_once_is_fetched_once(store, tmp_path):
    files = files_of(store, tmp_path)
    caches = [TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=1)) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda one: one[0].hold(one[1]), product(caches, files)))
    assert sorted(store.asked) == [f"/bucket/in/{number}.tar" for number in range(TARS)]
    for one in held:
        one.close()


def test_what_a_killed_process_has_begun_is_taken_over(store, tmp_path):
    file = files_of(store, tmp_path)[0]
    cache = TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=1.5 * file.size / 1e9))
    store.faults += ["slow"]
    words = [str(tmp_path / "cache"), str(1.5 * file.size / 1e9), "0", repr(tuple(file))]
    with Popen([sys.executable, "-c", PROCESS, *words]) as process:
        while not any(path.stat().st_size for path in (tmp_path / "cache").glob("*.part")):
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    assert [path.stat().st_size for path in (tmp_path / "cache").glob("*.*[tr]")] == [file.size]
    held = cache.hold(file)
    assert hashlib.sha256(held.path.read_bytes()).hexdigest() == file.sha256


def test_what_is_needed_last_makes_room_and_what_is_held_stays(store, tmp_path):
    files = files_of(store, tmp_path)
    cache = TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=3 * max(file.size for file in files) / 1e9))
    when = {cache.name(file): number for number, file in enumerate(files)}
    for file in files[:3]:
        cache.hold(file).close()
    held = cache.hold(files[2])
    assert cache.try_hold(files[3], when.get, when[cache.name(files[3])]) is None  # all else is needed before
    cache.hold(files[3], when.get).close()
    assert [cache.has(file) for file in files[:4]] == [True, False, True, True]
    held.close()
    cache.hold(files[4], {**when, cache.name(files[0]): 9}.get).close()
    assert [cache.has(file) for file in files[:5]] == [False, False, True, True, True]


def test_a_tar_that_has_changed_is_refused_by_name(store, tmp_path):
    file = files_of(store, tmp_path)[0]
    cache = TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=1))
    path = tmp_path / "store/bucket/in/0.tar"
    path.write_bytes(os.urandom(file.size))
    for one, said in ((file, "SHA-256"), (file._replace(sha256=None), "now RemoteFile")):
        with pytest.raises(ValueError, match=rf"^s3://bucket/in/0.tar: Changed: {said}.* listed or indexed; bring"):
            cache.hold(one)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match=r"^s3://bucket/in/0.tar: Changed: 5 bytes, \d+ expected"):
        cache.hold(file)
    with pytest.raises(ValueError, match=r"^s3://bucket/in/none.tar: FileNotFoundError"):
        cache.hold(file._replace(url="s3://bucket/in/none.tar"))


def test_the_doctor_names_tars_that_are_not_what_was_listed(store, source, tmp_path):  # noqa: F811
    """By their sizes and what their server says of them, though no job asks."""
    params = source(shards="s3://bucket/in")
    arrive(params, tmp_path)
    known = elsewhere.listed(tmp_path / "table")
    assert (len(known), elsewhere.changed(known), elsewhere.unlisted(params.source, known)) == (TARS, [], [])
    folder = tmp_path / "store/bucket/in"
    (folder / "0.tar").write_bytes(os.urandom((folder / "0.tar").stat().st_size))
    (folder / "1.tar").unlink()
    (folder / "new.tar").write_bytes(b"new")
    other, gone = elsewhere.changed(known)
    assert re.match(
        r"s3://bucket/in/0.tar: \d+ bytes, version .* now, and when it was listed .*; it is not what", other
    )
    assert gone.startswith("s3://bucket/in/1.tar: FileNotFoundError")
    assert elsewhere.unlisted(params.source, known) == ["s3://bucket/in/new.tar"]


def test_what_is_asked_is_asked_again_where_that_may_help(store, source):  # noqa: F811
    """Without botocore's own attempts, which would multiply ours; the first bytes of a tar are enough to count by."""
    params = source(shards="s3://bucket/in/[0-3].tar")
    store.faults += ["busy"] * 7
    assert rows_of(params.source) == (4 * EACH, "estimated by s3://bucket/in/0.tar")
    assert len(store.asked) == 8


def test_the_workflow_trains_from_a_bucket_and_a_folder_and_says_what_came_of_each(store, tmp_path):
    """From params.yaml to the page, with faults on the way; the test set is the folder of a test."""
    (tmp_path / "flip").mkdir()
    folder = copy_workflow(tmp_path / "flip")
    classified(folder / "birds")
    (folder / "here").mkdir()
    for number in range(16):
        (folder / f"here/{number}.jpg").write_bytes(photo(100 + number))
    write_table(folder / "here.csv", ["url", "caption"], [(f"{n}.jpg", f"photo {n}") for n in range(17)])
    several = {"bucket": {"shards": "s3://bucket/in"}, "here": {"table": "here.csv", "images": "here"}}
    mine = {
        "source": {"table": None, "several": several, "cache": {"folder": "tars", "gigabytes": 0.1}},
        "train": {
            "batch": 16,
            "epochs": 2.0,
            "warmup_samples": 16,
            "shuffle_shards": 1,
            "source_weights": {"here": 2.0},
        },
        "evaluate": {
            "primary_set": "birds",
            "sets": {"birds": "birds"},
            "languages": dict.fromkeys(("de", "es", "ru")),
        },
        "transfer": {"caption": None, "vqa": None},
        "cost": {"rounds": 3, "batch": 8},
    }

    def change(tree):
        table = tree["tables"]["a"] | {"variants": ["clip"], "metrics": ["birds"]}
        return shrink(tree) | {"scales": {"mine": mine}, "scale": "mine", "tables": {"a": table}, "tradeoff": None}

    write_params(folder, change)
    store.faults += ["busy", "cut", None, "short", None, "slow"]
    snakemake(folder, "--cores", "2", "ablations")
    ledger = read_json(folder / "data/mine/ledger.json")
    assert {name: one["used"] for name, one in ledger["sources"].items()} == {
        "bucket": TARS * EACH - 18,
        "here": 16,
    }  # 18 are in the test set
    page = " ".join((folder / "tables/mine/ablations/index.html").read_text().split())
    assert '<th scope="row">here</th><td class="num">17</td>' in page
    said = call(folder, "flip", "trace", "a", "clip", "birds")
    assert "here: 16 used of 17 wanted, of 17 rows; lost: 1 no such file" in said
    assert not store.faults
    shutil.copy(tmp_path / "store/bucket/in/0.tar", tmp_path / "store/bucket/in/later.tar")
    said = snakemake(folder, "-n", "data")
    assert "taken to be as listed; `--config scale=mine look=sources` compares" in said
    assert "Nothing to be done" in said
    look = ("data", "--config", "look=sources")
    said = snakemake(folder, "-n", *look)
    assert "s3://bucket/in/later.tar: not listed" in said
    assert {"table", "download", "fingerprints", "manifest"} <= planned(said).keys()
    snakemake(folder, "--cores", "2", *look)
    assert read_json(folder / "data/mine/ledger.json")["sources"]["bucket"]["wanted"] == (TARS + 1) * EACH
    assert "Nothing to be done" in snakemake(folder, "-n", *look)


HUB = """
import sys
from flip.config.schema import Cache
from flip.data.tar_cache import TarCache
from flip.formats import remote
pattern, folder = sys.argv[1:]
files = remote.look_up(remote.find(pattern))
cache = TarCache(Cache(folder=folder, gigabytes=1.0))
print(*(cache.hold(file).path for file in files))
"""


def test_a_data_set_of_the_hub(tmp_path):
    """Of a stand-in: the hub itself cannot be reached from a test."""
    files = {f"{number}.tar": os.urandom(100_000 + number) for number in range(3)} | {"README.md": b"text"}
    with serving("owner/name", files) as hub:
        off = dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_XET"), "1")
        off |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        words = [sys.executable, "-c", HUB, f"hf://datasets/owner/name@{COMMIT}/*.tar", str(tmp_path / "cache")]
        done = run(words, env=os.environ | off, capture_output=True, text=True, check=True)
    assert [Path(path).read_bytes() for path in done.stdout.split()] == [files[f"{number}.tar"] for number in range(3)]


class WithoutRanges(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_https_needs_no_ranges(tmp_path, monkeypatch):
    """Over http, as a certificate changes nothing."""
    (tmp_path / "0.tar").write_bytes(content := os.urandom(3 << 20))
    monkeypatch.setattr(remote, "WAITS", [0.01, 0.01])
    monkeypatch.setattr(remote, "BLOCK", 1 << 20)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(WithoutRanges, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (file,) = remote.look_up([f"http://127.0.0.1:{server.server_port}/0.tar"])
        assert file.size == len(content)
        held = TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=0.1)).hold(file)
        assert held.path.read_bytes() == content
        held.close()
        server.shutdown()
    gone = TarCache(Cache(folder=str(tmp_path / "other"), gigabytes=0.1))
    with pytest.raises(ValueError, match=rf"^{file.url}: .*Cannot connect.*; look at the network"):
        gone.hold(file)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shards": "https://name:secret@host/{0..9}.tar"}, "a key or a query is in the URL"),
        ({"shards": "https://host/0.tar?X-Amz-Signature=secret"}, "a key or a query is in the URL"),
        ({"shards": "ftp://host/0.tar"}, "ftp:// is not read; allowed: s3://, https://, http://, hf://"),
        ({"table": "s3://bucket/list.parquet", "shards": None}, "table: it must lie on a disk"),
    ],
)
def test_a_place_that_cannot_be_read_or_would_tell_a_key_is_refused_and_not_quoted(source, values, said):  # noqa: F811
    with pytest.raises(ParameterError) as refused:
        source(**{"shards": None} | values)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_cache_without_room_for_the_windows_is_refused_before_anything_is_fetched(tmp_path):
    one = {"samples": 1, "bytes": 10**9, "sha256": "", "version": ""}
    shards = [one | {"name": f"{number}", "tar": f"s3://bucket/{number}.tar"} for number in range(9)]
    cache = TarCache(Cache(folder=str(tmp_path / "cache"), gigabytes=5.9))
    with pytest.raises(ValueError, match=r"source.cache.gigabytes = 5.9: .* are up to 6; raise it, or lower"):
        ShardReader({"shards": shards}, tmp_path, 2, cache)
    ShardReader({"shards": shards}, tmp_path, 1, cache)
