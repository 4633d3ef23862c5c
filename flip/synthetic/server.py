"""Serve the synthetic data set by a local HTTP proxy for http://world.test/, with simulated network errors.

    python -m flip.synthetic.server --params specs/tiny/params/clip.yaml

With a proxy, URLs do not depend on the port that is free, so tables and downloads are equal on every machine.
Try it with `curl --proxy <address> http://world.test/000000000.jpg`.
"""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import IO, Any

import cv2
import numpy as np

from flip.config.faults import ParameterError
from flip.config.frozen import load
from flip.config.schema import World
from flip.processes import background, given_options
from flip.synthetic import textures
from flip.synthetic.world import FORBIDDEN, HOST, fault, jpeg, row_of

HUGE = 4000  # shorter side of a huge image, pixels


def enlarged(encoded: bytes) -> bytes:
    """Return a JPEG enlarged to at least `HUGE` pixels along its shorter side, every pixel a block."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None  # it was encoded here
    scale = -(-HUGE // min(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


TRACKER = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
PAGE = b"<!doctype html><title>Gone</title><p>This picture has moved."


ROBOTS = f"User-agent: *\nDisallow: /{FORBIDDEN}\n".encode()
PAUSE = 1  # seconds that a busy server asks to wait


class Web(BaseHTTPRequestHandler):
    """Answer requests to the proxy with the image of a row, or with the network error that `world.fault` gives it.

    Whoever claims to be a browser is refused.
    """

    world: World
    timeout_seconds: float
    server: "QuietServer"

    def do_GET(self) -> None:
        """Answer a request, and note it in the server's log."""
        with ExitStack() as self.visit:
            self.visit.enter_context(self.server.noted(self.path))
            self._respond()

    def _respond(self) -> None:
        if self.path == f"{HOST}robots.txt":
            return self._answer(200, "text/plain", ROBOTS)
        if self.headers.get("User-Agent", "").startswith("Mozilla"):
            return self._answer(403)
        try:
            row = row_of(self.path)
        except ValueError:
            row = -1
        if not 0 <= row < self.world.images:
            return self._answer(404)
        getattr(self, f"_{fault(self.world, row) or 'image'}")(row)

    def _answer(
        self,
        status: int,
        kind: str = "text/html",
        body: bytes = b"",
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.visit.close()  # whoever has the body may come again at once
        self.wfile.write(body)

    def _image(self, row: int) -> None:
        self._answer(200, "image/jpeg", jpeg(self.world, row))

    _disallowed = _image

    def _busy(self, row: int) -> None:
        if self.server.asked(row):
            return self._image(row)
        self._answer(429, headers={"Retry-After": str(PAUSE)})

    def _not_found(self, row: int) -> None:
        self._answer(404)

    def _forbidden(self, row: int) -> None:
        self._answer(403)

    def _slow(self, row: int) -> None:
        time.sleep(self.timeout_seconds + 1)
        self.close_connection = True

    def _reset(self, row: int) -> None:
        # With SO_LINGER at 0 s, closing sends RST in place of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def _truncated(self, row: int) -> None:
        # Every other one states its true length, as a file that was truncated before it was published.
        encoded = jpeg(self.world, row)
        half = encoded[: len(encoded) // 2]
        self._answer(200, "image/jpeg", half, len(half) if row % 2 else len(encoded))

    def _html(self, row: int) -> None:
        self._answer(200, "text/html", PAGE)

    def _tiny(self, row: int) -> None:
        self._answer(200, "image/png", TRACKER)

    def _huge(self, row: int) -> None:
        self._answer(200, "image/jpeg", enlarged(jpeg(self.world, row)))

    def log_message(self, *_: object) -> None:
        """Log nothing: errors are simulated on purpose."""


class QuietServer(ThreadingHTTPServer):
    """Serve requests in threads, silent about clients that disconnect; a line of `log` per request says how many were
    answered at that moment, and which URL it asks for."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, *args: Any, log: IO[str] | None = None):
        super().__init__(*args)
        self.log, self.lock, self.answering, self.asked_for = log, Lock(), 0, set[int]()

    @contextmanager
    def noted(self, url: str) -> Iterator[None]:
        """Count, and log, a request while it is answered."""
        with self.lock:
            self.answering += 1
            if self.log:
                print(self.answering, url, file=self.log, flush=True)
        try:
            yield
        finally:
            with self.lock:
                self.answering -= 1

    def asked(self, row: int) -> bool:
        """Tell whether a row was asked for before."""
        with self.lock:
            before = row in self.asked_for
            self.asked_for.add(row)
            return before

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless the client closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server(world: World, timeout: float, port: int = 0, log: IO[str] | None = None) -> QuietServer:
    """Return a server on a port of this machine (0: any that is free); `serve_forever()` starts it.

    `timeout` is what downloads wait for an answer, in seconds; slow rows take longer. `log` is for `QuietServer`.
    """
    for name in textures.TILES:
        textures.tile(name)  # in advance: else the first requests would draw them, all at once, and some would time out
    handler = type("WorldWeb", (Web,), {"world": world, "timeout_seconds": timeout})
    return QuietServer(("127.0.0.1", port), handler, log=log)


def address(web: QuietServer) -> str:
    """Return the address of the proxy."""
    return f"http://127.0.0.1:{web.server_port}"


def run_child() -> None:
    """Serve the data set in the process that `serving` starts; print the address, the one line of output."""
    options = given_options()
    with server(World.model_validate_json(json.dumps(options["world"])), options["timeout"]) as web:
        print(address(web), flush=True)
        web.serve_forever()


@contextmanager
def serving(world: World, timeout: float) -> Iterator[str]:
    """Serve the data set from a process of its own, and give the proxy's address.

    Raises:
        ValueError: the server did not start.
    """
    options = {"world": world.model_dump(mode="json"), "timeout": timeout}
    code = "from flip.synthetic.server import run_child; run_child()"
    with background(code, options, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # a pipe
        line = process.stdout.readline().strip()
        if not line:
            raise ValueError("the world's server did not start; its message is above")
        yield line


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the data set until Ctrl-C, by the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flip.synthetic.server", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    options = parser.parse_args(argv)
    try:
        params = load(options.params)
        web = server(params.world, params.download.timeout, options.port)
    except (ParameterError, OSError) as error:
        parser.exit(1, f"{error}\n")
    with web:
        print(f"{address(web)} is a proxy for http://world.test/; stop it with Ctrl-C", flush=True)
        with suppress(KeyboardInterrupt):
            web.serve_forever()


if __name__ == "__main__":
    main()
