"""Read which results of a scale DVC has recorded, from the files `<path>.dvc` beside them."""

import fcntl
import json
from pathlib import Path
from typing import Any

import yaml

from flip.provenance.layout import Layout

SUFFIX = ".dvc"
# DVC's notes of who reads and writes what, and the file that is locked while they are changed.
NOTES, GUARD = Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/rwlock.lock")


class Conflict(ValueError):
    """Report a file that differs from its receipt while DVC has the recorded one, or a damaged or edited record."""


def file_of(path: str) -> Path:
    """Return the path of the file in which DVC's record of a result lies."""
    return Path(path + SUFFIX)


def parse(text: str) -> dict[str, Any] | None:
    """Return what a file of DVC says; None if it is damaged, for instance with a conflict of a merge in it."""
    try:
        found = yaml.load(text, yaml.CSafeLoader)
        return found if isinstance(found["outs"], list) else None
    except (yaml.YAMLError, TypeError, KeyError):
        return None


def tracked(scale: str) -> dict[str, dict[str, Any]]:
    """Return DVC's records of a scale, by the path of the result.

    Raises:
        Conflict: some are damaged; all of them are named.
    """
    at = Layout(scale)
    places = (f"{at.data}/*", at.test("*"), at.variant("*"), at.report("*"))
    files = sorted(path for place in places for path in Path().glob(place + SUFFIX))
    found = {str(path): parse(path.read_text(errors="replace")) for path in files}
    if damaged := [path for path, content in found.items() if content is None]:
        raise Conflict(
            f"{', '.join(damaged)}: not a valid DVC record, for instance because of a merge conflict; delete it, and "
            f"what is here is recorded again, or `git checkout` it"
        )
    return {path.removesuffix(SUFFIX): content for path, content in found.items() if content}


def clear_damaged_notes() -> None:
    """Delete DVC's notes of its locks if one that was killed left them unreadable: no command would run."""
    if not NOTES.exists():
        return
    with open(GUARD, "w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # a DVC is writing them
        try:
            json.loads(NOTES.read_text())
        except ValueError:
            NOTES.unlink()
