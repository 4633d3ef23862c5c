"""Proves that the world's server fails in every way that the web does, under URLs that hold no port."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from flip.synthetic import server as serve
from flip.synthetic import world

FAULTS = ("not_found", "forbidden", "slow", "reset", "truncated", "html", "tiny", "huge", "disallowed", "busy")
TIMEOUT = 0.5


@pytest.fixture(scope="module")
def web(change):
    """(parameters of a world where half of the URLs fail, get(url)), over a server that runs meanwhile."""
    params = change(
        delta={"world": {"images": 400, "faults": dict.fromkeys(FAULTS, 0.06)}, "train": {"warmup_samples": 0}}
    ).world
    with serve.server(params, TIMEOUT) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": serve.address(server)}))

        def get(url, timeout=5):
            with opener.open(url, timeout=timeout) as answer:
                return answer.headers["Content-Type"], answer.read()

        yield params, get
        server.shutdown()


@pytest.fixture(scope="module")
def rows(web):
    """Rows by fault."""
    found = {}
    for row in range(web[0].images):
        found.setdefault(world.fault(web[0], row), []).append(row)
    assert found.keys() == {None, *FAULTS}
    return found


def test_image_is_that_of_its_row(web, rows):
    params, get = web
    for row in rows[None][:3]:
        assert get(world.url(row)) == ("image/jpeg", world.jpeg(params, row))


@pytest.mark.parametrize(("fault", "status"), [("not_found", 404), ("forbidden", 403)])
def test_refusals_have_their_status(web, rows, fault, status):
    with pytest.raises(urllib.error.HTTPError, match=str(status)) as refusal:
        web[1](world.url(rows[fault][0]))
    refusal.value.close()


@pytest.mark.parametrize("url", ["http://world.test/000000400.jpg", "http://world.test/favicon.ico"])
def test_other_addresses_are_not_found(web, url):
    with pytest.raises(urllib.error.HTTPError, match="404") as refusal:
        web[1](url)
    refusal.value.close()


def test_busy_rows_are_served_after_the_pause_that_they_ask_for(web, rows):
    params, get = web
    with pytest.raises(urllib.error.HTTPError, match="429") as refusal:
        get(world.url(rows["busy"][0]))
    assert refusal.value.headers["Retry-After"] == "1"
    refusal.value.close()
    assert get(world.url(rows["busy"][0])) == ("image/jpeg", world.jpeg(params, rows["busy"][0]))


def test_robots_txt_forbids_a_folder_that_the_table_names(web, rows):
    params, get = web
    assert get("http://world.test/robots.txt")[1] == b"User-agent: *\nDisallow: /private/\n"
    urls = [url for url, _ in world.urls(params)]
    assert [row for row, url in enumerate(urls) if url.startswith("http://world.test/private/")] == rows["disallowed"]
    assert [world.row_of(url) for url in urls] == [*range(len(urls))]
    assert get(urls[rows["disallowed"][0]])[0] == "image/jpeg"  # nothing but manners keeps anyone out


def test_false_browsers_are_refused(web, rows):
    asked = urllib.request.Request(world.url(rows[None][0]), headers={"User-Agent": "Mozilla/5.0 (X11; Linux)"})
    with pytest.raises(urllib.error.HTTPError, match="403") as refusal:
        web[1](asked)
    refusal.value.close()


def test_slow_answers_come_too_late(web, rows):
    with pytest.raises(TimeoutError):
        web[1](world.url(rows["slow"][0]), timeout=TIMEOUT)


def test_reset_is_a_reset(web, rows):
    with pytest.raises(ConnectionResetError):
        web[1](world.url(rows["reset"][0]))


def test_truncated_images_admit_it_or_not(web, rows):
    params, get = web
    admitting = next(row for row in rows["truncated"] if row % 2)
    hiding = next(row for row in rows["truncated"] if not row % 2)
    body = get(world.url(admitting))[1]
    assert world.jpeg(params, admitting).startswith(body)
    assert len(body) < len(world.jpeg(params, admitting))
    with pytest.raises(http.client.IncompleteRead):
        get(world.url(hiding))


def test_pages_and_trackers_come_instead_of_images(web, rows):
    assert web[1](world.url(rows["html"][0])) == ("text/html", serve.PAGE)
    kind, body = web[1](world.url(rows["tiny"][0]))
    assert kind == "image/png"
    assert cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).shape == (1, 1, 3)


def test_huge_is_the_image_with_many_pixels(web, rows):
    params, get = web
    row = rows["huge"][0]
    large = cv2.imdecode(np.frombuffer(get(world.url(row))[1], np.uint8), cv2.IMREAD_COLOR)
    small = cv2.imdecode(np.frombuffer(world.jpeg(params, row), np.uint8), cv2.IMREAD_COLOR)
    assert min(large.shape[:2]) >= serve.HUGE
    shrunk = cv2.resize(large, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 3


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_server_ends_with_a_parent_that_is_killed(web):
    code = (
        "import sys; from flip.config.schema import World; from flip.synthetic.server import serving\n"
        f"with serving(World.model_validate_json({web[0].model_dump_json()!r}), 1) as address:\n"
        "    print(address, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        port = int(parent.stdout.readline().rsplit(":", 1)[1])
        assert answers(port)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and answers(port):
        time.sleep(0.1)
    assert not answers(port)
