"""Fetch the tars that a training needs next, in the background, where they lie elsewhere."""

import math
import threading
from collections.abc import Callable, Sequence

from flip.data.tar_cache import Held, TarCache
from flip.formats.remote import RemoteFile

FETCHERS = 4  # threads


class FetchAhead:
    """Keep copies of the `most` tars that are needed next, and hold those that are asked for.

    files: of each shard, by number; None: it lies on a disk. Other processes of the machine may need the same ones.
    """

    def __init__(self, cache: TarCache, files: Sequence[RemoteFile | None], most: int):
        self.cache, self.files, self.most = cache, files, most
        self.names = {cache.name(file): number for number, file in enumerate(files) if file}
        self.window: object = None
        self.places: dict[int, int] = {}  # of a shard among those that are needed next
        self.left: list[int] = []  # to be fetched, in order
        self.ended = False
        self.changed = threading.Condition()
        for _ in range(FETCHERS):
            threading.Thread(target=self._work, daemon=True).start()

    def plan(self, window: object, coming: Callable[[], Sequence[int]]) -> None:
        """Fetch what is needed from now on: in another window of the order than before, `coming` lists all shards as
        they are needed next."""
        with self.changed:
            if window == self.window:
                return
            self.window, numbers = window, [number for number in coming() if self.files[number]]
            self.places = {number: place for place, number in enumerate(numbers)}
            self.left = numbers[: self.most]
            self.changed.notify_all()

    def end(self) -> None:
        """Let the threads end."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def hold(self, file: RemoteFile) -> Held:
        """Hold the copy of a tar, fetched now if need be. Raises ValueError as `TarCache.hold`."""
        return self.cache.hold(file, self.need)

    def need(self, name: str) -> float:
        """Return when a copy is needed, by its place among those that are needed next."""
        return self.places.get(self.names.get(name, -1), math.inf)

    def _work(self) -> None:
        while (number := self._next()) is not None:
            file = self.files[number]
            assert file is not None
            try:
                held = self.cache.try_hold(file, self.need, self.need(self.cache.name(file)))
            except (ValueError, OSError):
                continue  # who asks for it will say so
            if held:
                held.close()

    def _next(self) -> int | None:
        with self.changed:
            while not self.left and not self.ended:
                self.changed.wait()
            return None if self.ended else self.left.pop(0)
