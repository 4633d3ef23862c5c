"""Keep copies of tars that lie elsewhere, in a folder of bounded size that all processes of a machine share.

    <folder>/<hash>.tar     a copy, whole and checked; whoever reads it holds a shared lock on it
    <folder>/<hash>.part    being fetched, at its full size from the beginning; who fetches it holds a lock on it

Locks end with the process that holds them, so a kill leaves nothing that the next one cannot take over or delete. What
nobody holds may be deleted to make room, that first which is needed last.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

from flip.config.schema import Cache
from flip.formats.remote import RemoteFile, copy

PATIENCE = 600  # seconds that others may take to let go of what has to make room
PAUSE = 0.05

Need = Callable[[str], float]  # file of a copy -> when it is needed next, in a unit of its own; math.inf: not known


def unknown(name: str) -> float:
    """Say of any copy that nobody knows when it is needed."""
    return math.inf


class Held:
    """Hold a copy, which nobody deletes until this is closed or forgotten."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path, self.file = path, file

    def close(self) -> None:
        """Let go."""
        self.file.close()

    __del__ = close


Hold = Callable[[RemoteFile], Held]


def not_fetched(file: RemoteFile) -> Held:
    """Refuse to fetch a tar. Raises ValueError."""
    raise ValueError(f"{file.url}: lies elsewhere, and is not fetched for this")


def _lock(file: IO[bytes], kind: int) -> bool:
    """Take a lock without waiting; return whether that was possible."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class TarCache:
    """Keep copies of at most `settings.gigabytes` in `settings.folder`."""

    def __init__(self, settings: Cache):
        self.folder, self.room = Path(settings.folder), round(settings.gigabytes * 1e9)

    def name(self, file: RemoteFile) -> str:
        """Return the name of a file's copy."""
        return f"{sha256(f'{file.url} {file.size} {file.version}'.encode()).hexdigest()[:32]}.tar"

    def has(self, file: RemoteFile) -> bool:
        """Tell whether there is a copy."""
        return (self.folder / self.name(file)).exists()

    def hold(self, file: RemoteFile, need: Need = unknown) -> Held:
        """Return the copy of a file, fetched if need be; waits where another process fetches it.

        Raises:
            ValueError: as `copy`; it is larger than the cache, or what others hold leaves no room for it.
        """
        deadline = time.monotonic() + PATIENCE
        while (held := self.try_hold(file, need, -math.inf)) is None:
            if not self._part(file).exists() and time.monotonic() > deadline:
                raise ValueError(
                    f"{self.folder}: no room for {file.size} bytes of {file.url}, as all that is there is in use; "
                    "raise source.cache.gigabytes"
                )
            time.sleep(PAUSE)
        return held

    def try_hold(self, file: RemoteFile, need: Need, when: float) -> Held | None:
        """Return the copy of a file, fetched if need be; None while another process fetches it, and where there is no
        room but that of copies which are needed before `when`. Raises ValueError as `hold`."""
        if file.size > self.room:
            raise ValueError(
                f"{file.url}: {file.size} bytes are more than source.cache.gigabytes = {self.room / 1e9:g}; raise that"
            )
        if held := self._held(file):
            return held
        part = self._reserve(file, need, when)
        return self._fetch(file, part) if part else None

    def _part(self, file: RemoteFile) -> Path:
        return (self.folder / self.name(file)).with_suffix(".part")

    def _held(self, file: RemoteFile) -> Held | None:
        """Hold a copy that is there."""
        path = self.folder / self.name(file)
        try:
            opened = path.open("rb")
        except FileNotFoundError:
            return None
        # Between these lines, another process may have deleted it.
        if _lock(opened, fcntl.LOCK_SH) and os.fstat(opened.fileno()).st_nlink:
            return Held(path, opened)
        opened.close()
        return None

    def _reserve(self, file: RemoteFile, need: Need, when: float) -> IO[bytes] | None:
        """Return an empty file, locked, that counts with its full size; None as `try_hold`."""
        path = self._part(file)
        with self._turn():
            if path.with_suffix(".tar").exists():
                return None
            if not path.exists() and not self._make_room(file.size, need, when):
                return None
            part = path.open("r+b" if path.exists() else "w+b")
            if not _lock(part, fcntl.LOCK_EX):
                part.close()
                return None
            part.truncate(file.size)
            return part

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from changing which files there are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def _make_room(self, size: int, need: Need, when: float) -> bool:
        """Delete what nobody holds until there is room, that first which is needed last, and nothing that is needed
        before `when`; return whether there is."""
        there = {one.name: one.stat() for one in os.scandir(self.folder) if one.name.endswith((".tar", ".part"))}
        free, needed = self.room - sum(state.st_size for state in there.values()), {one: need(one) for one in there}
        for name in sorted(there, key=lambda one: (-needed[one], there[one].st_mtime_ns)):
            if free >= size or needed[name] <= when:
                break
            if self._delete(name):
                free += there[name].st_size
        return free >= size

    def _delete(self, name: str) -> bool:
        """Delete a copy, or what a killed process has left of one, unless a process holds it; return whether it is
        gone."""
        try:
            with open(self.folder / name, "rb") as file:
                if free := _lock(file, fcntl.LOCK_EX):
                    (self.folder / name).unlink()
                return free
        except FileNotFoundError:
            return True

    def _fetch(self, file: RemoteFile, part: IO[bytes]) -> Held:
        """Fetch a file into what was reserved for it."""
        path = self.folder / self.name(file)
        try:
            copy(file, part)
            part.flush()
            os.fsync(part.fileno())
        except BaseException:
            part.close()
            raise
        with self._turn():
            os.replace(self._part(file), path)
        fcntl.flock(part, fcntl.LOCK_SH)
        return Held(path, part)


@contextmanager
def local(file: Path | RemoteFile, hold: Hold) -> Iterator[Path]:
    """Give the path of a file, or of its copy by `hold`, which stays within the block."""
    if not isinstance(file, RemoteFile):
        yield file
        return
    held = hold(file)
    try:
        yield held.path
    finally:
        held.close()
