"""The world's web: a local HTTP proxy that answers for http://world.test/, failures included.

    python -m flip.synthetic.server --params specs/tiny/params/clip.yaml

A proxy leaves URLs as they are, whatever port is free, so tables and downloads are the same everywhere.
Look at it with `curl --proxy <address> http://world.test/000000000.jpg`.
"""

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from flip.config.faults import ParameterError
from flip.config.frozen import load
from flip.config.schema import World
from flip.processes import background, given_options
from flip.synthetic import textures
from flip.synthetic.world import fault, jpeg, row_of

HUGE = 4000  # shorter side of a huge picture, pixels


def enlarged(picture: bytes) -> bytes:
    """The same JPEG with `HUGE` pixels along its shorter side, every pixel a block."""
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    scale = -(-HUGE // min(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


TRACKER = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
PAGE = b"<!doctype html><title>Gone</title><p>This picture has moved."


class Web(BaseHTTPRequestHandler):
    """Answers a proxy request as `world.fault` says for its row."""

    world: World
    timeout_seconds: float

    def do_GET(self):
        try:
            row = row_of(self.path)
        except ValueError:
            row = -1
        if not 0 <= row < self.world.pictures:
            return self._answer(404)
        getattr(self, f"_{fault(self.world, row) or 'picture'}")(row)

    def _answer(self, status: int, kind: str = "text/html", body: bytes = b"", length: int | None = None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _picture(self, row):
        self._answer(200, "image/jpeg", jpeg(self.world, row))

    def _not_found(self, row):
        self._answer(404)

    def _forbidden(self, row):
        self._answer(403)

    def _slow(self, row):
        time.sleep(self.timeout_seconds + 1)
        self.close_connection = True

    def _reset(self, row):
        # With a linger of 0 s, closing sends RST instead of the usual farewell.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def _truncated(self, row):
        # Every other one admits its length, as a file does that was cut before it was put on the web.
        picture = jpeg(self.world, row)
        half = picture[: len(picture) // 2]
        self._answer(200, "image/jpeg", half, len(half) if row % 2 else len(picture))

    def _html(self, row):
        self._answer(200, "text/html", PAGE)

    def _tiny(self, row):
        self._answer(200, "image/png", TRACKER)

    def _huge(self, row):
        self._answer(200, "image/jpeg", enlarged(jpeg(self.world, row)))

    def log_message(self, *_):
        """Failures are part of this world: nothing to say."""


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        """A client that gives up is no news, anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server(world: World, timeout: float, port: int = 0) -> QuietServer:
    """A server on a port of this machine (0: any that is free); `serve_forever()` starts it."""
    for name in textures.TILES:
        textures.tile(name)  # ahead: else the first requests, all at once, make them, and some come too late
    handler = type("WorldWeb", (Web,), {"world": world, "timeout_seconds": timeout})
    return QuietServer(("127.0.0.1", port), handler)


def address(web: QuietServer) -> str:
    return f"http://127.0.0.1:{web.server_port}"


def run_child() -> None:
    """Serve the world in the process that `serving` starts; its one line of output is the address."""
    options = given_options()
    with server(World.model_validate_json(json.dumps(options["world"])), options["timeout"]) as web:
        print(address(web), flush=True)
        web.serve_forever()


@contextmanager
def serving(world: World, timeout: float):
    """Serve the world from a process of its own; gives the proxy's address."""
    options = {"world": world.model_dump(mode="json"), "timeout": timeout}
    code = "from flip.synthetic.server import run_child; run_child()"
    with background(code, options, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline().strip()
        if not line:
            raise ValueError("the world's server did not start; its message is above")
        yield line


def main(argv=None):
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
