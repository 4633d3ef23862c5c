"""Say in one line that a disk is full: which, and what to do. A job of a rule ends with it, with no traceback."""

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType

FULL = {errno.ENOSPC, errno.EDQUOT}
# As libraries repeat them, which raise errors of their own; and NumPy's of a short write, which has no number.
WORDS = re.compile("|".join([*map(os.strerror, sorted(FULL)), r"\d+ requested and \d+ written"]))
LEAST = 1 << 20  # bytes, below which a disk counts as full


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it followed."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_full(error: BaseException) -> bool:
    """Return whether an error says that a disk, or a quota, is full."""
    return getattr(error, "errno", None) in FULL or bool(WORDS.search(f"{error} {error.args}"))


def full(error: BaseException) -> str | None:
    """Return what to say of an error where a disk is full; None where it is another error."""
    found = [one for one in chain(error) if is_full(one)]
    if not found:
        return None
    named = [str(one.filename) for one in found if isinstance(one, OSError) and one.filename]
    places = named or [place for place in (os.getcwd(), tempfile.gettempdir()) if shutil.disk_usage(place).free < LEAST]
    return (
        f"{places[0] if places else os.getcwd()}: no space left on its disk, or in its quota; free some and start the "
        "workflow again: what is finished stays, and a training goes on from its last checkpoint"
    )


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the line in place of a traceback (`sys.excepthook`)."""
    if line := full(error):
        print(line, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
