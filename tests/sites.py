"""A web site on this machine that answers as a test says, and notes who asked for what."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        answer = self.server.pages.get(self.path, self.server.pages.get("*", (404, {}, b"")))
        status, headers, body = answer() if callable(answer) else answer
        self.send_response(status)
        length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
        for name, value in (length | headers).items():
            self.send_header(name, value)
        self.end_headers()
        for piece in [body] if isinstance(body, bytes) else body:
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *_):
        pass


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients leave when they have had enough."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def site(pages):
    """A server of pages, path -> (status, headers, body), or a function that gives these; `*` for all others."""
    with Site(("127.0.0.1", 0), Handler) as server:
        server.pages, server.asked = pages, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
