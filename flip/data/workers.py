"""Run in img2dataset's worker processes, which import this by its name, and with it img2dataset, which takes
seconds."""

from typing import Any
from urllib.request import install_opener

from img2dataset.downloader import Downloader

from flip.data.schemes import opener


class KeptDownloader(Downloader):
    """Download as img2dataset does, but only URLs of the given schemes."""

    def __init__(self, schemes: list[str], *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.schemes = schemes

    def __call__(self, row: Any) -> Any:
        install_opener(opener(self.schemes))
        return super().__call__(row)
