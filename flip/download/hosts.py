"""Treat each host politely, from all processes of a download together: few connections at once, no more requests a
second than allowed, none while it asks for a pause, and robots.txt fetched once.

What is known of a host is in small files named by its hash, in a folder that the processes share. Locks on them are the
kernel's, which releases those of a process that ends, however that is.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path
from typing import IO

from protego import Protego

from flip.download.failures import described

KNOWN_SECONDS = 86_400  # for so long a robots.txt counts (RFC 9309, 2.4)
UNKNOWN_SECONDS = 10  # for so long one that could not be had is not asked for again
POLL_SECONDS = 0.05  # between two looks for a free connection


class NoTurnError(TimeoutError):
    """Tell that a host was too busy to be asked in time."""


class Hosts:
    """Give turns to ask hosts: at most `connections` at once, and `per_second` requests, to each."""

    def __init__(self, folder: str | Path, connections: int, per_second: float | None):
        self.folder, self.connections = Path(folder), connections
        self.gap = 1 / per_second if per_second else 0.0
        self.known: dict[str, Protego] = {}  # by origin; a process lives as long as a shard

    def _file(self, host: str, kind: str) -> Path:
        return self.folder / f"{sha256(host.encode()).hexdigest()[:32]}.{kind}"

    @contextmanager
    def turn(self, host: str, until: float) -> Iterator[None]:
        """Hold one of the host's connections for the length of the block, which begins when the host may be asked.

        Raises:
            NoTurnError: not before `until` (monotonic seconds).
        """
        with self._connection(host, until):
            self._pace(host, until)
            yield

    @contextmanager
    def _connection(self, host: str, until: float) -> Iterator[None]:
        while (file := self._free(host)) is None:
            wait(random.uniform(0, 2 * POLL_SECONDS), until)
        with file:
            yield

    def _free(self, host: str) -> IO[bytes] | None:
        """Return a locked file, whose lock ends when it is closed; None where all connections are in use."""
        for number in range(self.connections):
            file = open(self._file(host, str(number)), "ab")  # noqa: SIM115  (the caller closes it)
            try:
                flock(file, LOCK_EX | LOCK_NB)
                return file
            except BlockingIOError:
                file.close()
        return None

    @contextmanager
    def _locked(self, host: str, kind: str) -> Iterator[IO[bytes]]:
        """Give a file that no other process has meanwhile, at its beginning."""
        with open(self._file(host, kind), "a+b") as file:
            flock(file, LOCK_EX)
            file.seek(0)
            yield file

    def _pace(self, host: str, until: float) -> None:
        """Wait until the host may be asked, and say when it may be asked next."""
        if not self.gap and not self._file(host, "next").exists():
            return
        with self._locked(host, "next") as file:
            now = time.time()
            start = max(now, float(file.read() or 0))
            if start - now <= until - time.monotonic():
                rewrite(file, str(start + self.gap))
        wait(start - now, until)

    def pause(self, host: str, seconds: float) -> None:
        """Ask the host nothing for so long."""
        with self._locked(host, "next") as file:
            rewrite(file, str(max(time.time() + seconds, float(file.read() or 0))))

    def robots(self, origin: str, ask: Callable[[], str]) -> Protego:
        """Return the rules of an origin (scheme, host and port), for which `ask` fetches its robots.txt if need be.

        Raises:
            OSError: it cannot be had, or could not a moment ago.
        """
        if origin in self.known:
            return self.known[origin]
        with self._locked(origin, "robots") as file:
            known = json.loads(file.read() or b'{"until": 0}')
            if known["until"] < time.time():
                known = self._asked(ask)
                rewrite(file, json.dumps(known))
        if "error" in known:
            raise OSError(known["error"])
        return self.known.setdefault(origin, Protego.parse(known["text"]))

    def _asked(self, ask: Callable[[], str]) -> dict:
        try:
            return {"text": ask(), "until": time.time() + KNOWN_SECONDS}
        except Exception as error:  # whatever a stranger's server makes of it
            return {"error": f"robots.txt: {described(error)}", "until": time.time() + UNKNOWN_SECONDS}


def rewrite(file: IO[bytes], text: str) -> None:
    """Replace what is in a file."""
    file.seek(0)
    file.truncate()
    file.write(text.encode())
    file.flush()


def wait(seconds: float, until: float) -> None:
    """Sleep.

    Raises:
        NoTurnError: that would be later than `until` (monotonic seconds); it is raised at once.
    """
    if time.monotonic() + seconds > until:
        raise NoTurnError("timed out: the host's turns, or a pause that it asked for, take too long")
    time.sleep(max(0.0, seconds))
