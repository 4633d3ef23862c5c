"""One URL is fetched within its limits, under an honest name, from public addresses, where its host allows it."""

import socket
import threading
import time
from contextlib import suppress
from random import Random

import pytest

from flip.download import connections, fetch, hosts
from flip.download.addresses import is_public, literal
from flip.download.failures import failure
from tests.sites import site

IMAGE = (200, {}, b"image")


@pytest.fixture
def get(tmp_path, monkeypatch):
    """get(url, **limits): the class of failure, or the body."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def fetched(url, private=True, contact=None, deadline=10.0, largest=100, retries=0, schemes=("http", "https")):
        known = hosts.Hosts(tmp_path, 4, None)
        asks = fetch.Fetcher(schemes, private, contact, deadline, largest, known)
        key, body, message = asks((7, url), timeout=2, retries=retries)
        assert key == 7
        if body is None:
            return failure(message)
        with body:
            return body.read()

    return fetched


def test_an_image_comes_under_an_honest_name(get):
    with site({"*": IMAGE}) as server:
        assert get(f"{server.url}/a", contact="https://lab.example/crawl") == b"image"
        paths, agents = zip(*server.asked, strict=True)
    assert paths == ("/robots.txt", "/a")
    assert set(agents) == {"flip (image-text research; by img2dataset; https://lab.example/crawl)"}


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/a b.jpg", "/a%20b.jpg"),
        ("/\u00e9.jpg?q=\u00fc", "/%C3%A9.jpg?q=%C3%BC"),
        ("/a%20b%C3%A9", "/a%20b%C3%A9"),
        ("/100%/%41 %zz", "/100%25/%41%20%25zz"),
        ("/a|b[1]\\", "/a%7Cb%5B1%5D%5C"),
        ("/x?a=b&c=d+e#part", "/x?a=b&c=d+e"),
    ],
)
def test_what_a_url_must_not_hold_is_percent_encoded_once(get, path, asked):
    assert fetch.normal(fetch.normal(f"http://h{path}")) == f"http://h{asked}"
    with site({asked: IMAGE}) as server:
        assert get(f" {server.url}{path} ") == b"image"


def test_hosts_in_other_letters_become_ascii():
    assert fetch.normal("http://b\u00fccher.example/\u00fc") == "http://xn--bcher-kva.example/%C3%BC"
    with pytest.raises(ValueError, match="no URL"):
        fetch.normal("http://a b/")


def drops(piece):
    for _ in range(100):
        time.sleep(0.05)
        yield piece


def drip(server):
    """Answers with a header that never ends, a byte at a time."""
    with suppress(OSError):
        while True:
            caller, _ = server.accept()
            with caller, suppress(ConnectionError):
                caller.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                for one in drops(b"y"):
                    caller.sendall(one)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ((200, {"Content-Length": "1000"}, drops(b"x")), "time-out"),
        ((200, {"Content-Length": "99"}, b"x"), "truncated"),
    ],
)
def test_bodies_that_do_not_end_are_left(get, answer, found):
    with site({"/slow": answer}) as server:
        start = time.monotonic()
        assert get(f"{server.url}/slow", deadline=0.6, largest=2000) == found
        assert time.monotonic() - start < 3


def test_headers_that_do_not_end_are_left(get):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        start = time.monotonic()
        assert get(f"http://127.0.0.1:{server.getsockname()[1]}/a", deadline=0.6) == "time-out"
        assert time.monotonic() - start < 3


def test_large_bodies_are_refused_by_what_they_say_and_by_what_they_are(get):
    chunked = [b"%x\r\n%s\r\n" % (50, b"x" * 50)] * 3 + [b"0\r\n\r\n"]
    pages = {"/said": (200, {}, b"x" * 101), "/fits": (200, {}, b"x" * 100)}
    with site(pages) as server:
        assert get(f"{server.url}/said") == "too large"
        assert get(f"{server.url}/fits") == b"x" * 100
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(2):
                caller, _ = server.accept()
                body = b"" if b"robots" in caller.recv(4096) else b"".join(chunked)
                caller.sendall(b"HTTP/1.1 %s OK\r\nTransfer-Encoding: chunked\r\n\r\n" % (b"200" if body else b"404"))
                caller.sendall(body or b"0\r\n\r\n")
                caller.close()

        threading.Thread(target=answer, daemon=True).start()
        assert get(f"http://127.0.0.1:{server.getsockname()[1]}/") == "too large"


def test_what_passes_is_asked_for_again_after_the_pause_that_was_asked_for(get):
    answers = [(503, {"Retry-After": "1"}, b""), IMAGE, (404, {}, b""), IMAGE, (429, {"Retry-After": "99"}, b"")]
    with site({"/a": lambda: answers.pop(0)}) as server:
        start = time.monotonic()
        assert get(f"{server.url}/a", retries=1) == b"image"
        assert 1 <= time.monotonic() - start < 4
        assert get(f"{server.url}/a", retries=1) == "not found"  # once
        assert get(f"{server.url}/a", retries=1) == b"image"
        start = time.monotonic()
        assert get(f"{server.url}/a", retries=1, deadline=5.0) in ("server busy", "time-out")
        assert get(f"{server.url}/b", deadline=5.0) == "time-out"  # the host is left alone
        assert time.monotonic() - start < 3
        assert not answers


def test_robots_txt_is_heeded_with_wildcards_for_either_name_and_asked_for_once(get):
    rules = b"User-agent: *\nDisallow: /*.gif$\n\nUser-agent: img2dataset\nDisallow: /images/\n"
    with site({"/robots.txt": (200, {"X-Robots-Tag": "noindex"}, rules), "*": IMAGE}) as server:
        wanted = {"/a.gif": "robots.txt", "/images/a": "robots.txt", "/a.gif?x": b"image", "/a": b"image"}
        assert {path: get(server.url + path) for path in wanted} == wanted
        assert [path for path, _ in server.asked] == ["/robots.txt", "/a.gif?x", "/a"]


def test_redirects_are_heeded_as_urls_are(get):
    def to(place):
        return (302, {"Location": place}, b"")

    with site({"/robots.txt": (200, {}, b"User-agent: flip\nDisallow: /no"), "*": IMAGE}) as there:
        pages = {"/no": to(f"{there.url}/no"), "/yes": to(f"{there.url}/yes b"), "/loop": to("/loop")}
        with site(pages | {"/file": to("file:///etc/hostname")}) as here:
            assert get(f"{here.url}/yes") == b"image"
            assert get(f"{here.url}/no") == "robots.txt"
            assert get(f"{here.url}/loop") == "other answer"
            assert get(f"{here.url}/file") == "refused"
        assert [path for path, _ in there.asked] == ["/robots.txt", "/yes%20b"]


@pytest.mark.parametrize("status", [404, 403])
def test_a_missing_robots_txt_allows_and_a_broken_server_does_not(get, status):
    with site({"/robots.txt": (status, {}, b""), "*": IMAGE}) as server:
        assert get(f"{server.url}/a") == b"image"
    with site({"/robots.txt": (500, {}, b""), "*": IMAGE}) as server:
        assert get(f"{server.url}/a") == get(f"{server.url}/b") == "server error"
        assert [path for path, _ in server.asked] == ["/robots.txt"]


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"X-Robots-Tag": "noai"}, False),
        ({"X-Robots-Tag": "max-image-preview:large, NoImageAI"}, False),
        ({"X-Robots-Tag": "img2dataset: noindex, nofollow"}, False),
        ({"X-Robots-Tag": "otherbot: noai"}, True),
        ({"X-Robots-Tag": "nofollow"}, True),
        ({"tdm-reservation": "1"}, False),
        ({"tdm-reservation": "0"}, True),
    ],
)
def test_headers_opt_out(get, headers, kept):
    with site({"/a": (200, headers, b"image")}) as server:
        assert get(f"{server.url}/a") == (b"image" if kept else "opted out")


PRIVATE = (
    "127.0.0.1 10.1.2.3 172.20.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1 :: ::1 "
    "fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1"
)


def test_private_addresses_are_known_in_every_spelling():
    assert not any(map(is_public, PRIVATE.split()))
    assert all(map(is_public, ("8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8")))
    assert {literal(host) for host in ("127.0.0.1", "2130706433", "0x7f.1", "127.1", "017700000001")} == {"127.0.0.1"}
    assert literal("example.org") is None


def test_private_addresses_are_not_asked_unless_parameters_say_so(get, monkeypatch):
    """By address, by a name that stands for one, by redirect, and through a proxy that would go there."""
    with site({"*": IMAGE}) as server:
        port = server.server_port
        names = ["127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "[::1]", "[::ffff:127.0.0.1]"]
        for host in names:
            assert get(f"http://{host}:{port}/a", private=False) == "private address", host
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "")
        for host in names:
            assert get(f"http://{host}:{port}/a", private=False) == "private address", host
        assert not server.asked
        assert get("http://name.example/a", private=False) == b"image"  # the proxy itself may be here


def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(get, monkeypatch):
    """A name whose owner answers first with a public address and then with this machine's."""
    answers, reached = ["93.184.216.34", "127.0.0.1"], []

    def resolve(host, port, *args, **options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0) if host == "rebind.test" else host, port))]

    def create(place, *args):
        reached.append(place)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", create)
    monkeypatch.setenv("no_proxy", "*")
    assert get("http://rebind.test/a", private=False) == "refused connection"
    assert reached == [("93.184.216.34", 80)]
    assert answers == ["127.0.0.1"]


def test_a_host_has_few_connections_at_once_and_few_requests_a_second(tmp_path):
    at_once, most, times = [], [], []

    def ask():
        with hosts.Hosts(tmp_path, 2, 20.0).turn("h", time.monotonic() + 30):
            at_once.append(1)
            times.append(time.monotonic())
            most.append(len(at_once))
            time.sleep(0.02)
            at_once.pop()

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 2
    assert max(times) - min(times) >= 9 / 20 - 0.05
    soon, slow = time.monotonic() + 0.2, hosts.Hosts(tmp_path, 2, 0.1)
    with pytest.raises(hosts.NoTurnError), slow.turn("i", soon), slow.turn("i", soon):
        pass
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_names_of_hosts_lead_to_no_path_of_their_choosing(tmp_path):
    (tmp_path / "a").mkdir()
    with hosts.Hosts(tmp_path / "a", 1, 1.0).turn("../../b", time.monotonic() + 1):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_sockets_of_both_kinds_have_the_deadline():
    assert connections.encryption().sslsocket_class is connections.TLSSocket


def test_no_url_fails_for_a_reason_without_a_name(tmp_path, monkeypatch):
    """500 addresses that no browser would take, and no resolver knows."""

    def resolve(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("no_proxy", "*")
    asks = fetch.Fetcher(("http", "https"), False, None, 10, 100, hosts.Hosts(tmp_path, 4, None))
    pieces = (
        "http:// https:// [ ] ::1 127.0.0.1 localhost : / // @ u:p % %zz \u00e9 # ? .. a.test 99999999 :80 :x \\ xn--"
    )
    random, found = Random(0), set()
    for _ in range(500):
        some = random.choices([*pieces.split(), " ", "\n", "\0", "\ufffd", "\u3002", "\u0660"], k=random.randrange(6))
        url = random.choice(("http://", "https://")) + "".join(some)
        found.add(failure(asks((0, url), timeout=1, retries=0)[2]))
    assert found == {"no URL", "no such host", "private address"}
