"""A server that speaks S3 over HTTP on this machine (rclone, from the lock), and between it and who asks a proxy that
fails on purpose."""

import http.client
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Proxy(BaseHTTPRequestHandler):
    """`faults`: what happens to the next answers that have content, one each: 'busy', 'cut', 'short', 'slow', None."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        with closing(http.client.HTTPConnection("127.0.0.1", server.behind, timeout=60)) as connection:
            connection.request(self.command, self.path, headers=dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        is_object = self.command == "GET" and answer.status in (200, 206) and "list-type" not in self.path
        fault = server.faults.pop(0) if is_object and server.faults else None
        if is_object:
            server.asked.append(self.path)
        if fault == "busy":
            return self.say(503, b"<Error><Code>SlowDown</Code></Error>", [("Content-Type", "application/xml")])
        kept = [one for one in answer.getheaders() if one[0].lower() not in ("content-length", "transfer-encoding")]
        length = int(answer.getheader("Content-Length") or len(content))
        self.say(answer.status, content, kept, len(content) if is_object else length, fault)

    do_HEAD = do_GET

    def say(self, status, content, headers, length=None, fault=None):
        sent = content[: len(content) // 2] if fault in ("cut", "short") else content
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        # One that is cut states all its bytes and sends half; one that is short states and sends half.
        self.send_header("Content-Length", str(len(sent) if fault == "short" else length or len(content)))
        self.end_headers()
        if self.command == "GET":
            if fault == "slow":
                time.sleep(0.1)
            self.wfile.write(sent)
        self.close_connection = fault == "cut"


@contextmanager
def served(folder):
    """Serve the folders in `folder` as buckets; give the proxy, whose `address` asks for the keys name, secret."""
    port = free_port()
    words = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    words += ["--auth-key", "name,secret", "--vfs-cache-mode", "off", "--dir-cache-time", "0s", str(folder)]
    with (
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as store,
        ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy,
    ):
        deadline = time.monotonic() + 30
        with socket.socket() as client:
            while client.connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        proxy.behind, proxy.faults, proxy.asked = port, [], []
        proxy.address = f"http://127.0.0.1:{proxy.server_port}"
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            store.terminate()
