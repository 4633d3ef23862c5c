"""Run in img2dataset's processes, which find this by its name.

It takes seconds to import img2dataset, so one process does it for all: the others are forked from it and share its
memory. So each shard can have a process of its own, and one that the kernel kills fails that shard alone.
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self

from img2dataset import downloader
from img2dataset.downloader import Downloader
from img2dataset.logger import LoggerProcess

from flip.download.fetch import Fetcher
from flip.download.hosts import Hosts
from flip.processes import end_with_parent
from flip.space import is_full

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload([__name__, "flip.download.resize"])
CHECK = 1  # seconds between two looks at whether a shard grows

Shard = tuple[int, str]  # number, path of its rows
Result = tuple[bool, Shard]


class ForkedLogger(ForkServerProcess, LoggerProcess):
    """Report as img2dataset's own logger does; never outlive its parent."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.daemon = True  # what failed must not wait for its logger

    def run(self) -> None:
        end_with_parent(signal.SIGKILL)
        super().run()


@contextmanager
def ending_when_full() -> Iterator[None]:
    """End this process, with the code ENOSPC, where the disk is full: img2dataset would try the next image, or hang."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            os._exit(errno.ENOSPC)
        raise


def careful(writer: Any) -> type:
    """Return a writer of samples like another, whose process ends at a full disk."""

    class Writer(writer):
        write = ending_when_full()(writer.write)
        close = ending_when_full()(writer.close)

    return Writer


class KeptDownloader(Downloader):
    """Download a shard as img2dataset does, in a process that ends with it, but fetch images by `Fetcher`."""

    sample_writer_class: Any

    def __init__(self, fetching: dict[str, Any], *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.fetching = fetching

    def __call__(self, row: Shard) -> None:
        end_with_parent(signal.SIGKILL)
        self.sample_writer_class = careful(self.sample_writer_class)
        hosts = Hosts(**self.fetching.pop("hosts"))
        downloader.download_image_with_retry = Fetcher(**self.fetching, hosts=hosts)
        done, _ = super().__call__(row)
        raise SystemExit(0 if done else 1)


class Running:
    """Hold the process of a shard, and tell when its files last grew."""

    def __init__(self, download: Callable, folder: str, shard: Shard):
        self.shard, self.began = shard, time.time()
        self.files = Path(folder), f"{shard[0]:05d}.*"
        self.process = FORKED.Process(target=download, args=(shard,))
        self.process.start()

    def idle(self) -> float:
        """Return for how many seconds the files of the shard have not changed."""
        folder, pattern = self.files
        return time.time() - max([self.began, *(path.stat().st_mtime for path in folder.glob(pattern))])


class ShardProcesses:
    """Stand in for img2dataset's Pool, which waits for ever for a worker that was killed.

    A process that ends before its shard, or whose shard has not grown for `stall` seconds and is killed, fails that
    shard; img2dataset then hands it out again, a bounded number of times.
    """

    def __init__(self, stall: float, processes: int, **_: Any):
        self.stall, self.processes = stall, processes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def terminate(self) -> None:
        """Do nothing: no process is left when `imap_unordered` ends."""

    join = terminate

    def imap_unordered(self, download: Any, shards: Iterable[Shard]) -> Iterator[Result]:
        """Yield, for every shard, whether it is complete."""
        running: list[Running] = []
        for shard in shards:
            while len(running) >= self.processes:
                yield from self._ended(running)
            running.append(Running(download, download.output_folder, shard))
        while running:
            yield from self._ended(running)

    def _ended(self, running: list[Running]) -> Iterator[Result]:
        """Wait for a moment; yield the results of processes that have ended, and remove these.

        Raises:
            OSError: one has found the disk full.
        """
        connection.wait([one.process.sentinel for one in running], CHECK)
        for one in [*running]:
            if one.process.is_alive() and one.idle() > self.stall:
                print(f"Error: shard {one.shard[0]} has not grown for {self.stall:.0f} s; its process is killed")
                one.process.kill()
                one.process.join()
            if not one.process.is_alive():
                running.remove(one)
                if (code := one.process.exitcode) == errno.ENOSPC:
                    raise OSError(code, os.strerror(code), str(one.files[0]))
                if code not in (0, 1):
                    print(f"Error: the process of shard {one.shard[0]} ended with {code} (-9: killed, by the kernel?)")
                yield code == 0, one.shard
