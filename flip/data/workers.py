"""Run in img2dataset's processes, which find this by its name.

It takes seconds to import img2dataset, so one process does it for all: the others, those that replace a worker after
some shards among them, are forked from it and share its memory.
"""

from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from typing import Any
from urllib.request import install_opener

from img2dataset.downloader import Downloader
from img2dataset.logger import LoggerProcess

from flip.data.schemes import opener

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload([__name__, "flip.data.resize"])


class ForkedLogger(ForkServerProcess, LoggerProcess):
    """Report as img2dataset's own logger does."""


class KeptDownloader(Downloader):
    """Download as img2dataset does, but only URLs of the given schemes."""

    def __init__(self, schemes: list[str], *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.schemes = schemes

    def __call__(self, row: Any) -> Any:
        install_opener(opener(self.schemes))
        return super().__call__(row)
