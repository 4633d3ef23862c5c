"""Restrict which URLs are fetched to the schemes in `download.schemes`, in img2dataset's workers, too.

A list of URLs is a stranger's: `file:` would read this machine's disk into the data. So other rows are not passed to
img2dataset, and its workers know no other protocol, wherever a server may redirect them.
"""

import urllib.request as request
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flip.download.connections import FTPHandler, HTTPHandler, HTTPSHandler

# By scheme: what builds urllib's handler, given whether private addresses are allowed.
HANDLERS: dict[str, Callable[[bool], request.BaseHandler]] = {
    "http": HTTPHandler,
    "https": HTTPSHandler,
    "ftp": FTPHandler,
    "file": lambda _: request.FileHandler(),
    "data": lambda _: request.DataHandler(),
}


def fetchable(urls: pa.ChunkedArray, schemes: Sequence[str]) -> pa.ChunkedArray:
    """Tell which URLs have one of the schemes, as urllib reads them: without the spaces around them, in any case."""
    found = pc.match_substring_regex(pc.utf8_trim_whitespace(urls), f"^({'|'.join(schemes)}):", ignore_case=True)
    return pc.fill_null(found, False)


def opener(schemes: Sequence[str], private: bool) -> request.OpenerDirector:
    """Build urllib's opener with the protocols of these schemes alone; it follows no redirect and takes every status.

    `private` allows addresses that are not public.
    """
    proxies = {scheme: proxy for scheme, proxy in request.getproxies().items() if scheme in schemes}
    found = request.OpenerDirector()
    for handler in (request.UnknownHandler(), *(HANDLERS[scheme](private) for scheme in schemes)):
        found.add_handler(handler)
    found.add_handler(request.ProxyHandler(proxies))
    return found
