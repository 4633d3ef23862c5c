"""Reach files that lie elsewhere: s3://, https://, hf://, by fsspec.

Keys to them are never in params.yaml: s3fs reads AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like or ~/.aws,
huggingface_hub HF_TOKEN, and fsspec's own settings may have more.
"""

import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import IO, Any, NamedTuple, TypeVar

Answer = TypeVar("Answer")

SCHEMES = ("s3", "https", "http", "hf")
STAMPS = ("ETag", "etag", "blob_id", "LastModified", "Last-Modified")  # what a server tells versions apart by
BLOCK = 1 << 23  # bytes of a request
WAITS = (0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 60)  # seconds before the next try
ASKING = 6  # of the waits, where somebody waits for an answer
PASSING = {408, 425, 429}  # of the answers that blame the one who asks, those that may pass
ASKED = 16  # questions to a server at once


class RemoteFile(NamedTuple):
    """Describe a file that lies elsewhere: URL, size in bytes, what its server tells versions apart by, and SHA-256
    (hexadecimal) where that is known."""

    url: str
    size: int
    version: str
    sha256: str | None = None


def is_remote(place: str) -> bool:
    """Tell whether a place is a URL, and no path."""
    return "://" in place


def fault_of(place: str) -> str | None:
    """Return why a URL cannot be a place in params.yaml, which many read; it is not quoted, as it may have a key."""
    scheme, _, rest = place.partition("://")
    if scheme not in SCHEMES:
        return f"{scheme}:// is not read; allowed: {', '.join(f'{one}://' for one in SCHEMES)}"
    if "@" in rest.partition("/")[0] or (scheme.startswith("http") and "?" in rest):
        return "a key or a query is in the URL; keys belong into the environment (AWS_ACCESS_KEY_ID, HF_TOKEN)"
    return None


def filesystem(url: str) -> Any:
    """Return fsspec's file system of a URL, which looks anew whenever it is asked; but for the hub's, which would list
    the whole folder for each file."""
    import fsspec  # here, as no dry run of local data needs it

    scheme = url.partition("://")[0]
    # Below s3fs, which tries five times, botocore would try each of these five times.
    once = {"config_kwargs": {"retries": {"total_max_attempts": 1}}} if scheme == "s3" else {}
    return fsspec.filesystem(scheme, **{} if scheme == "hf" else {"use_listings_cache": False}, **once)


def asked(act: Callable[[], Answer]) -> Answer:
    """Return what `act` gives, which asks a server, a few times if what it raises may pass. Raises what it raises."""
    for wait in WAITS[:ASKING]:
        try:
            return act()
        except Exception as error:  # each protocol has errors of its own
            if not may_pass(reason(error)):
                raise
            time.sleep(wait)
    return act()


def find(pattern: str) -> list[str]:
    """List the URLs of a glob, sorted; of a URL without one, that itself.

    Raises:
        ValueError: the server does not answer.
    """
    if not re.search(r"[*?[]", pattern):
        return [pattern]
    system = filesystem(pattern)
    try:
        return sorted(map(system.unstrip_protocol, asked(lambda: system.glob(pattern))))
    except Exception as error:  # each protocol has errors of its own
        raise ValueError(f"{pattern}: {described(error)}; look at the network and the keys") from None


def look_up(urls: Iterable[str]) -> list[RemoteFile | str]:
    """Describe files, or say of one why it cannot be read; several are asked for at once."""
    with ThreadPoolExecutor(ASKED) as pool:
        return list(pool.map(_described, urls))


def beginning(file: RemoteFile, size: int) -> bytes:
    """Read the first bytes of a file.

    Raises:
        ValueError: the server does not give them.
    """
    try:
        return asked(lambda: filesystem(file.url).cat_file(file.url, start=0, end=min(size, file.size)))
    except Exception as error:  # each protocol has errors of its own
        raise ValueError(f"{file.url}: {described(reason(error))}; look at the network and the keys") from None


def _described(url: str) -> RemoteFile | str:
    try:
        found = asked(lambda: filesystem(url).info(url))
    except Exception as error:
        return described(reason(error))
    if found["type"] != "file" or found.get("size") is None:
        return "its server does not say how many bytes it has"
    return RemoteFile(url, found["size"], str(next((found[one] for one in STAMPS if found.get(one)), "")))


def reason(error: BaseException) -> BaseException:
    """Return what made a request fail: of whatever happens to one by http, fsspec says that there is no such file."""
    import aiohttp  # here, as `filesystem`

    cause = error.__cause__
    return cause if isinstance(error, FileNotFoundError) and isinstance(cause, aiohttp.ClientError) else error


def described(error: BaseException) -> str:
    """Say in a line what an error says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")


def may_pass(error: BaseException) -> bool:
    """Tell whether what failed may succeed later."""
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in PASSING
    return not refused and not isinstance(error, (FileNotFoundError, PermissionError, Changed))


AS_BEFORE = (
    "it is not what was listed or indexed; bring that back, or run `snakemake` with `--config look=sources`, which "
    "takes in what there is"
)


class Changed(ValueError):
    """Report that a file is no longer what it was when it was described."""


class _Copying:
    """Copy a file to the beginning of `out`, in as many attempts as it takes."""

    def __init__(self, file: RemoteFile, out: IO[bytes]):
        self.file, self.out = file, out
        self.block = BLOCK
        self._begin()

    def _begin(self) -> None:
        self.digest, self.done = sha256(), 0
        self.out.seek(0)

    def attempt(self) -> None:
        """Go on where the attempt before ended, to the end. Raises whatever happens."""
        url, size = self.file.url, self.file.size
        with filesystem(url).open(url, "rb", block_size=self.block, cache_type="none") as source:
            if getattr(source, "size", None) not in (None, size):
                raise Changed(f"{source.size} bytes, {size} expected")
            self._go_to(source)
            while block := source.read(BLOCK):
                self._take(block)
        if self.done < size:
            raise OSError(f"ended at byte {self.done} of {size}")
        self._check()

    def _check(self) -> None:
        if self.file.sha256 is None:
            if (found := _described(self.file.url)) != self.file:
                raise Changed(f"now {found}")
        elif (digest := self.digest.hexdigest()) != self.file.sha256:
            raise Changed(f"SHA-256 {digest[:12]}..., {self.file.sha256[:12]}... expected")

    def _go_to(self, source: IO[bytes]) -> None:
        if self.block:
            source.seek(self.done)
        else:
            self._begin()

    def do_without_ranges(self) -> None:
        """Read from the beginning to the end from now on."""
        self.block = 0

    def _take(self, block: bytes) -> None:
        if (end := self.done + len(block)) > self.file.size:
            raise Changed(f"more than the {self.file.size} bytes expected")
        self.out.write(block)
        self.digest.update(block)
        self.done = end


def copy(file: RemoteFile, out: IO[bytes]) -> None:
    """Copy a file to the beginning of `out`. What fails for a reason that may pass is tried again, from where it broke
    off.

    Raises:
        ValueError: the file is another than the one described, or cannot be read.
    """
    copying, cause, remedy = _Copying(file, out), "", "look at the network, the keys, and whether it is there"
    for wait in (0, *WAITS):
        time.sleep(wait)
        try:
            return copying.attempt()
        except Exception as error:  # each protocol has errors of its own
            cause = described(reason(error))
            if isinstance(error, Changed):
                remedy = AS_BEFORE
            elif isinstance(error, ValueError):  # of a server that has no ranges
                copying.do_without_ranges()
            if not may_pass(reason(error)):
                break
    raise ValueError(f"{file.url}: {cause}; {remedy}")
