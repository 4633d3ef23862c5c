"""Name the ways in which an image fails to arrive, and tell which of them pass."""

import re

# Of what a library or flip.download.fetch said of a failure, the first pattern that is found names the class.
CLASSES = {
    "refused": r"unknown url type|Redirection to url .* is not allowed",
    "private address": r"private address",
    "robots.txt": r"robots\.txt forbids",
    "opted out": r"X-Robots-Tag|tdm-reservation",
    "changed": r"hash mismatch",
    "not found": r"HTTP Error (404|410)",
    "forbidden": r"HTTP Error (401|402|403|407|451)",
    "time-out": r"timed out|HTTP Error (408|504)",
    "server busy": r"HTTP Error (429|503)",
    "server error": r"HTTP Error 5",
    "other answer": r"HTTP Error|redirects|BadStatusLine|LineTooLong|HTTPException|UnknownProtocol",
    "no such host": r"Name or service not known|No address associated|nodename nor servname|Errno -[258]\b",
    "name server": r"name resolution|Errno -3\b",
    "refused connection": r"Connection refused",
    "certificate": r"CERTIFICATE|certificate",
    "truncated": r"IncompleteRead",
    "too large": r"bytes, allowed",
    "too many pixels": r"pixels, allowed|decompression bomb",
    "too small": r"image too small",
    "too elongated": r"aspect ratio too large",
    "format not read": r"of a format that is not read",
    "no readable image": r"Image decoding error|OpenCV",
    "no URL": r"no URL|ValueError|Unicode.*Error|InvalidURL|no host given",
    "connection": r"urlopen error|Errno|[Cc]onnection|SSL|Remote end closed",
}
# Which may be otherwise a moment later, so that the same run asks again.
PASSING = frozenset(
    ("time-out", "server busy", "server error", "name server", "truncated", "connection", "refused connection")
)
# Which a later run may ask again: also what parameters decide, and names that a resolver did not know for a day.
ASKED_AGAIN = PASSING | {"no such host", "private address", "too large"}
# Which say nothing of the network: rows that parameters, or the owners of images, left out.
LEFT_OUT = frozenset(("refused", "unreadable text", "private address", "robots.txt", "opted out"))


def described(error: Exception) -> str:
    """Describe an error in a line; those that may only quote a server or a URL are named."""
    return (str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")[:300]


def failure(message: str) -> str:
    """Return the class of a failure by what was said of it."""
    return next((name for name, pattern in CLASSES.items() if re.search(pattern, message)), "other")
