"""A list of URLs reads nothing from the disk: rows with a scheme that params.yaml does not name are counted and never
opened, and a server that redirects to one is not followed. Real img2dataset over real HTTP on this machine."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args
from urllib.error import URLError

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.config.sections.download import Download
from flip.download import crawl, schemes
from flip.download import part as download
from flip.files import read_json
from flip.sources import table
from tests.layouts import photo

HTTP = ["http", "https"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if target := self.server.redirects.get(self.path):
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        robots = self.path == "/robots.txt"
        content = b"" if robots else photo(int(self.path.strip("/")[:1]))
        self.send_response(404 if robots else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(redirects):
    """A web server whose paths are images, or redirected; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.redirects = redirects
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def listening():
    """A port that counts who calls: its URL as FTP, and the calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = []

        def accept():
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                calls.append(1)
                caller.close()

        threading.Thread(target=accept, daemon=True).start()
        yield f"ftp://127.0.0.1:{server.getsockname()[1]}/x.jpg", calls
        server.shutdown(socket.SHUT_RDWR)


def test_other_schemes_are_counted_and_never_opened(change, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(photo(9))
    with listening() as (ftp, calls), serving({"/file": f"file://{secret}", "/ftp": ftp, "/back": "/3"}) as web:
        here = web.removeprefix("http://")
        fetched = [f"{web}/1", f" HTTP://{here}/2 ", f"{web}/back"]
        led_away = [f"{web}/file", f"{web}/ftp"]
        files = [f"{form}{secret}" for form in ("file://", "FILE://", " file:", "URL:file://", "\u00a0file://", "")]
        refused = [*files, f"<file://{secret}>", "secret.jpg", ftp, "data:image/jpeg;base64,AAAA", f"{here}/1"]
        urls = [url for pair in zip(refused, [*fetched, *led_away, *refused], strict=False) for url in pair]
        pq.write_table(pa.table({"url": urls, "caption": ["a boat"] * len(urls)}), tmp_path / "theirs.parquet")
        delta = {"source": {"table": str(tmp_path / "theirs.parquet")}, "download": {"parts": 1, "processes": 1}}
        params = change(
            delta=delta | {"download": delta["download"] | {"timeout": 30, "retries": 0, "private_addresses": True}}
        )
        (tmp_path / "params.yaml").write_text(dump(params))
        table.write_parts(params, tmp_path / "table")
        words = ["--params", tmp_path / "params.yaml", "--table", tmp_path / "table/0000.parquet"]
        download.main([str(word) for word in [*words, "--out", tmp_path / "0000.json"]])
    account = read_json(tmp_path / "0000.json")
    counts = {"wanted": len(urls), "arrived": 3, "failed": {"refused": len(urls) - 3}}
    assert account == counts | {"images": account["images"]}
    assert calls == []
    (stored,) = (tmp_path / "0000").glob("*.parquet")
    assert sorted(row["url"] for row in pq.read_table(stored).to_pylist()) == sorted([*fetched, *led_away])
    assert secret.read_bytes() not in b"".join(path.read_bytes() for path in (tmp_path / "0000").rglob("*.tar"))


def test_a_part_of_refused_rows_alone_says_so(change, tmp_path, capsys):
    """The table of a stranger who wants this machine's name in the data."""
    pq.write_table(pa.table({"url": ["file:///etc/hostname"], "caption": ["a host"]}), tmp_path / "t.parquet")
    params = change(delta={"source": {"table": str(tmp_path / "t.parquet")}, "download": {"parts": 1}})
    table.write_parts(params, tmp_path / "table")
    with pytest.raises(ValueError, match=r"no image arrived of 1 \(1 refused\)"):
        download.download(params, tmp_path / "table/0000.parquet", tmp_path / "0000.json")
    assert not list((tmp_path / "0000").glob("*.tar"))


def test_ordinary_tables_are_handed_over_as_they_are(change, tmp_path, monkeypatch):
    """The file itself, and what says which download it was, so that none is made again; without refused rows, whatever
    the schemes."""
    rows = {"url": [" http://a/ b", "HTTPS://b", "http:c"], "caption": ["a", "b", "c"], "row": [0, 1, 2]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    handed = []

    def fetch(params, shards, log, proxy):
        handed.extend(shards.tables())
        log.write_text("stopped")
        return 1

    monkeypatch.setattr(crawl, "fetch", fetch)
    for allowed in (HTTP, [*HTTP, "ftp"]):
        params = change(delta={"source": {"table": "elsewhere"}, "download": {"schemes": allowed}})
        with pytest.raises(ValueError, match="unfinished"):
            download.download(params, tmp_path / "t.parquet", tmp_path / "0.json")
        made_from = (tmp_path / "0" / ".made_from").read_text()
        # As it was before how hosts are treated had parameters.
        names = (
            "image_size",
            "timeout",
            "retries",
            "min_image_size",
            "max_aspect_ratio",
            "quality",
            "samples_per_shard",
        )
        options = json.dumps({name: getattr(params.download, name) for name in names}, separators=(",", ":"))
        assert made_from == f"{download.file_hash(tmp_path / 't.parquet')} {options} {download.DECODING} "
    assert [path.resolve() for path in handed] == [tmp_path / "t.parquet"] * 2


def test_openers_know_the_schemes_that_are_allowed_and_no_other(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with schemes.opener(["file", "data"], False).open(f"file://{tmp_path}/x") as file:
        assert file.read() == b"x"
    with schemes.opener(["data"], False).open("data:,y") as file:
        assert file.read() == b"y"
    urls = {
        "file": f"file://{tmp_path}/x",
        "data": "data:,y",
        "ftp": "ftp://127.0.0.1:9/x",
        "http": "http://127.0.0.1:9",
    }
    for scheme, url in urls.items():
        others = [one for one in schemes.HANDLERS if one != scheme]
        with pytest.raises(URLError, match=f"unknown url type: {scheme}"):
            schemes.opener(others, False).open(url)
        assert not schemes.fetchable(pa.chunked_array([[url]]), others)[0].as_py()
        assert schemes.fetchable(pa.chunked_array([[f"\t{url.upper()}"]]), [scheme])[0].as_py()


def test_the_schemes_of_params_yaml_are_those_that_urllib_opens(change):
    (allowed,) = get_args(Download.model_fields["schemes"].annotation)
    assert set(get_args(allowed)) == schemes.HANDLERS.keys()
    assert change().download.schemes == HTTP
    for wrong in (["gopher"], []):
        with pytest.raises(ParameterError, match=r"download\.schemes"):
            change(delta={"download": {"schemes": wrong}})
