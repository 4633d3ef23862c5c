"""Open URLs by urllib over connections that lead to public addresses alone, and end at a deadline, however slow."""

import http.client
import socket
import ssl
import time
import urllib.request as request
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from flip.download.addresses import connect_public, require_public_name


class Until:
    """Let a socket wait for its next bytes until `until` (monotonic seconds) at the latest."""

    until = float("inf")

    def recv_into(self, *args: Any) -> int:
        """Read as a socket does.

        Raises:
            TimeoutError: it is too late.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out: the whole answer takes too long")
        known: Any = super()
        timeout = known.gettimeout()
        known.settimeout(left if timeout is None else min(timeout, left))
        return known.recv_into(*args)


class PlainSocket(Until, socket.socket):
    """Be a socket with a deadline."""


class TLSSocket(Until, ssl.SSLSocket):
    """Be an encrypted socket with a deadline."""


def encryption() -> ssl.SSLContext:
    """Return what checks certificates as urllib does."""
    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    return context


class Connection(http.client.HTTPConnection):
    """Connect by `connect`, and give the socket a deadline."""

    def __init__(self, *args: Any, connect: Any, until: float, **options: Any):
        super().__init__(*args, **options)
        self._create_connection, self.until = connect, until

    def connect(self) -> None:
        """Connect."""
        super().connect()
        plain, timeout = self.sock, self.sock.gettimeout()
        self.sock = PlainSocket(plain.family, plain.type, plain.proto, plain.detach())
        self.sock.settimeout(timeout)
        self.sock.until = self.until


class TLSConnection(http.client.HTTPSConnection):
    """Connect by `connect`, and give the encrypted socket a deadline."""

    def __init__(self, *args: Any, connect: Any, until: float, **options: Any):
        super().__init__(*args, **options)
        self._create_connection, self.until = connect, until

    def connect(self) -> None:
        """Connect."""
        super().connect()
        self.sock.until = self.until  # type: ignore[union-attr]


class BoundedRequest(request.Request):
    """Ask for a URL, under a name that says who asks, until a deadline (monotonic seconds)."""

    def __init__(self, url: str, agent: str, until: float):
        super().__init__(url, headers={"User-Agent": agent})
        self.until = until


def connector(asked: Any, private: bool) -> Any:
    """Return what connects for a request; `private` allows addresses that are not public.

    A proxy is whoever set it up; it resolves names, so only what a URL itself says is checked.

    Raises:
        PrivateAddressError: the URL names an address that is not public.
    """
    if private:
        return socket.create_connection
    require_public_name(urlsplit(asked.full_url).hostname or "")
    return socket.create_connection if asked.has_proxy() or asked._tunnel_host else connect_public


class HTTPHandler(request.HTTPHandler):
    """Open http URLs."""

    def __init__(self, private: bool):
        super().__init__()
        self.private = private

    def http_open(self, asked: Any) -> Any:
        """Ask over a bounded connection."""
        return self.do_open(partial(Connection, connect=connector(asked, self.private), until=asked.until), asked)


class HTTPSHandler(request.HTTPSHandler):
    """Open https URLs."""

    def __init__(self, private: bool):
        self.private, self.encryption = private, encryption()
        super().__init__(context=self.encryption)

    def https_open(self, asked: Any) -> Any:
        """Ask over a bounded, encrypted connection."""
        connect = connector(asked, self.private)
        return self.do_open(partial(TLSConnection, connect=connect, until=asked.until, context=self.encryption), asked)


class FTPHandler(request.FTPHandler):
    """Open ftp URLs."""

    def __init__(self, private: bool):
        self.private = private

    def connect_ftp(self, user: str, passwd: str, host: str, *rest: Any) -> Any:
        """Connect to an address, which urllib has resolved the name to.

        Raises:
            PrivateAddressError: it is not public.
        """
        if not self.private:
            require_public_name(host)
        return super().connect_ftp(user, passwd, host, *rest)
