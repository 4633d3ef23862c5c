"""Fetch one image by its URL, in place of img2dataset's download_image: with a deadline and a largest size, from public
addresses, under an honest name, where robots.txt and the answer's headers allow it."""

import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from flip.download.connections import BoundedRequest
from flip.download.failures import PASSING, described, failure
from flip.download.hosts import Hosts
from flip.download.schemes import opener

NAMES = ("flip", "img2dataset")  # that robots.txt and X-Robots-Tag may call this by
OPT_OUTS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "none"))
VALUED = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")  # directives with a colon
STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")  # for which urllib3 would encode all that is encoded again
WEB = ("http", "https")
REDIRECTED = (301, 302, 303, 307, 308)
REDIRECTS = 5  # at most
ROBOTS_BYTES = 512_000  # of a robots.txt that are read (RFC 9309, 2.5)
BLOCK = 65_536  # bytes read at a time
IN_MEMORY = 1 << 20  # bytes of a body; longer ones wait on the disk, as bodies wait for each other to be resized
FIRST_WAIT = 0.5  # seconds before a second attempt, doubled before each further one


def agent(contact: str | None) -> str:
    """Return the User-Agent: who asks, by which programs, and whom to write to."""
    return f"flip (image-text research; by img2dataset; {contact or 'no contact given'})"


def normal(url: str) -> str:
    """Percent-encode what a URL must not hold, spaces and letters beyond ASCII; what is encoded stays as it is.

    Raises:
        ValueError: it is no URL.
    """
    if urlsplit(url.strip()).scheme.lower() not in WEB:
        return url.strip()
    try:
        found = parse_url(STRAY_PERCENT.sub("%25", url.strip()))
    except LocationParseError as error:
        raise ValueError(f"no URL: {error}") from None
    return found._replace(fragment=None).url


def opted_out(headers: Any) -> str | None:
    """Return the header by which an answer forbids this use; None if there is none."""
    for value in headers.get_all("X-Robots-Tag") or ():
        name, colon, rest = value.lower().partition(":")
        to_one = colon and "," not in name and name.strip() not in VALUED
        directives = {one.strip() for one in (rest if to_one else value.lower()).split(",")}
        if (not to_one or name.strip() in NAMES) and directives & OPT_OUTS:
            return "X-Robots-Tag"
    return "tdm-reservation" if (headers.get("tdm-reservation") or "").strip() == "1" else None


def asked_pause(headers: Any) -> float:
    """Return how many seconds an answer asks to wait (Retry-After: seconds or a date); 0 if it does not say."""
    value = (headers.get("Retry-After") or "0").strip()
    try:
        return float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0


class RedirectsError(OSError):
    """Tell that a URL is redirected too often."""


class Fetcher:
    """Fetch images; what limits there are is said in `download` of params.yaml."""

    def __init__(
        self, schemes: Sequence[str], private: bool, contact: str | None, deadline: float, largest: int, hosts: Hosts
    ):
        self.opener, self.agent = opener(schemes, private), agent(contact)
        self.deadline, self.largest, self.hosts = deadline, largest, hosts

    def __call__(
        self, row: tuple[int, str], timeout: float, retries: int, **_: object
    ) -> tuple[int, IO[bytes] | None, str | None]:
        """Return (key, body, None) or (key, None, what went wrong), as img2dataset's download_image_with_retry.

        What fails for a reason that passes is tried again, while there is time.
        """
        key, url = row
        until = time.monotonic() + self.deadline
        for attempt in range(retries + 1):
            try:
                return key, self.image(url, timeout, until), None
            except Exception as error:  # whatever a stranger's server makes of it
                message = described(error)
            pause = FIRST_WAIT * 2**attempt * random.uniform(1, 1.5)
            if failure(message) not in PASSING or time.monotonic() + pause > until:
                break
            if attempt < retries:
                time.sleep(pause)
        return key, None, message

    def image(self, url: str, timeout: float, until: float) -> IO[bytes]:
        """Fetch an image, by at most `REDIRECTS` redirects.

        Raises:
            OSError, ValueError, http.client.HTTPException: it does not come, or must not.
        """
        return self._follow(url, timeout, until, self._heed_robots, self._image_body)

    def _follow(self, url: str, timeout: float, until: float, heed: Callable, read: Callable) -> Any:
        """Follow redirects, to `heed` each URL before it is asked for; return what `read` makes of the answer."""
        for _ in range(REDIRECTS + 1):
            url = normal(url)
            heed(url, timeout, until)
            found = self._ask(url, timeout, until, read)
            if not isinstance(found, str):
                return found
            url = urljoin(url, found)
        raise RedirectsError(f"more than {REDIRECTS} redirects")

    def _ask(self, url: str, timeout: float, until: float, read: Callable) -> Any:
        """Return what `read` makes of the answer, or where the URL is redirected to."""
        host = urlsplit(url).hostname or ""
        with self.hosts.turn(host, until):
            wait = max(0.001, min(timeout, until - time.monotonic()))
            with self.opener.open(BoundedRequest(url, self.agent, until), timeout=wait) as answer:
                status = answer.status or 200  # other protocols have none
                if status in REDIRECTED and (target := answer.headers["Location"]):
                    return target
                if not 200 <= status < 300:
                    if (pause := asked_pause(answer.headers)) > 0:
                        self.hosts.pause(host, pause)
                    raise HTTPError(url, status, answer.reason, answer.headers, None)
                return read(answer, until)

    def _heed_robots(self, url: str, timeout: float, until: float) -> None:
        """Raise OSError where the host's robots.txt forbids a URL, or cannot be had."""
        place = urlsplit(url)
        if place.scheme not in WEB:
            return
        origin = f"{place.scheme}://{place.netloc}"
        rules = self.hosts.robots(origin, lambda: self._robots(f"{origin}/robots.txt", timeout, until))
        if not all(rules.can_fetch(url, name) for name in NAMES):
            raise OSError("robots.txt forbids it")

    def _robots(self, url: str, timeout: float, until: float) -> str:
        """Fetch a robots.txt; where there is none, everything is allowed (RFC 9309, 2.3.1)."""
        try:
            body = self._follow(url, timeout, until, lambda *_: None, lambda answer, _: answer.read(ROBOTS_BYTES))
            return body.decode("utf-8", errors="replace")
        except RedirectsError:
            return ""
        except HTTPError as error:
            if error.code == 429 or error.code >= 500:
                raise
            return ""

    def _image_body(self, answer: Any, until: float) -> IO[bytes]:
        if header := opted_out(answer.headers):
            raise OSError(f"{header} forbids it")
        return read_body(answer, until, self.largest)


def read_body(answer: Any, until: float, largest: int) -> IO[bytes]:
    """Read an answer's body into a file, and go to its beginning.

    Raises:
        OSError: it is larger than `largest` bytes, takes longer than `until`, or ends early.
    """
    if (stated := getattr(answer, "length", None) or 0) > largest:
        raise OSError(f"{stated:,} bytes, allowed: {largest:,}")
    with ExitStack() as stack:
        body = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        while block := answer.read(BLOCK):
            body.write(block)
            if body.tell() > largest:
                raise OSError(f"{body.tell():,} or more bytes, allowed: {largest:,}")
            if time.monotonic() > until:
                raise TimeoutError("timed out: the whole answer takes too long")
        if left := getattr(answer, "length", None):
            raise OSError(f"IncompleteRead({body.tell()} bytes read, {left} more expected)")
        body.seek(0)
        stack.pop_all()  # img2dataset closes it
        return body
