"""Write files so that a reader, or a restarted job, never meets half of one; and hash them."""

import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from braceexpand import braceexpand

from flip.space import full, report


def _unnamed(folder: Path) -> int | None:
    """Open a file in a folder that has no name yet, so that a kill leaves none; None where the file system cannot."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except (AttributeError, OSError):
        return None


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Callable[[], str]]]:
    """Give a descriptor of a new file beside a path, and what gives the file a name there and returns it."""
    name = f"{path.parent}/.{path.name}.{secrets.token_hex(4)}"
    if (handle := _unnamed(path.parent)) is None:
        handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        yield handle, lambda: name if os.path.exists(name) else _linked(handle, name)
    finally:
        Path(name).unlink(missing_ok=True)


def _linked(handle: int, name: str) -> str:
    """Give an open file a name, and return it."""
    folder = os.open(os.path.dirname(name), os.O_RDONLY)
    try:  # Python follows the link in /proc only where a folder is given, too.
        os.link(f"/proc/self/fd/{handle}", os.path.basename(name), dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
    return name


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """Give a binary file object whose content appears at `path` at once when the block ends, or not at all.

    Raises:
        OSError: as writing does; one line says what to do where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _temporary(path) as (handle, named), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(named(), path)
    except OSError as error:
        error.filename = error.filename or str(path)
        if line := full(error):
            raise OSError(line) from error
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder that appears at `path` at once when the block ends, or not at all.

    Raises:
        ValueError: something is there already.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(f"{path}: already exists; delete it, or choose another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write content to a file, at once."""
    with atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON to a file, at once."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


PLANNED = "FLIP_PLANNED"  # in the environment of a job: JSON, path -> SHA-256 of files that it was planned with
if PLANNED in os.environ:
    sys.excepthook = report


def read_planned(path: str | Path) -> bytes:
    """Return a file's content.

    Raises:
        ValueError: this is a job of the workflow, and the file was replaced since it began.
    """
    content = Path(path).read_bytes()
    planned = json.loads(os.environ.get(PLANNED, "{}")).get(str(path))
    if planned not in (None, sha256(content).hexdigest()):
        raise ValueError(f"{path}: replaced since this job began, by another workflow or by hand; start it again")
    return content


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def expand(patterns: Iterable[str]) -> list[str]:
    """List paths, each written out or with ranges in braces: 'part-{0000..4095}.json'.

    A command line has no room for thousands of paths.
    """
    return [path for pattern in patterns for path in braced(pattern)]


HASHES = Path(".flip/hashes")
LARGE = 1 << 20  # bytes from which on it pays to remember a hash


def known_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, hexadecimal, cached until its size, times or inode change.

    Whoever writes to a file can set its modification time back, but not the time of its last change (ctime).
    """
    path, state = Path(path), Path(path).stat()
    if state.st_size < LARGE:
        return file_hash(path)
    memory = HASHES / sha256(str(path.absolute()).encode()).hexdigest()
    stamp = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
    if memory.exists():
        remembered, _, known = memory.read_text().rpartition(" ")
        if remembered == stamp:
            return known
    known = file_hash(path)
    write_atomic(memory, f"{stamp} {known}")
    return known


def braced(place: str) -> list[str]:
    """Return the paths, or globs, that one with ranges in braces stands for, as {000..127}."""
    try:
        return list(braceexpand(place, escape=False)) if "{" in place else [place]
    except ValueError:  # a brace without its other half
        return [place]


def place_files(place: str) -> dict[str, Path]:
    """Return the files of a place from outside the project, by their names in it: of a file, a glob or ranges in
    braces, or all below a folder but hidden ones."""
    if os.path.isdir(place):
        return {str(path.relative_to(place)): path for path in sorted(_below(Path(place), set()))}
    # A name may have a bracket in it.
    found = {place}.union(*({one, *glob(one, recursive=True)} for one in braced(place)))
    return {path: Path(path) for path in sorted(found) if os.path.isfile(path)}


def _below(folder: Path, above: set[Path]) -> Iterator[Path]:
    """Yield the files below a folder but hidden ones, following links, as readers do. A link that leads back up is left
    out, as is what is no file."""
    above = above | {folder.resolve()}
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and path.resolve() not in above:
            yield from _below(path, above)


BY_STATE = (".tar", "/**")  # ends of places that may hold terabytes


def state(path: str | Path) -> str:
    """Return size in bytes and time of modification of a file, which change when it is written anew."""
    found = Path(path).stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def place_hash(place: str) -> str | None:
    """Return a hash of the names and contents of a place's files (`place_files`); None where there is none.

    Of tars and of all below a folder (`folder/**`), states stand for contents: their jobs hash what they read.
    """
    found, content = place_files(place), state if place.endswith(BY_STATE) else known_hash
    lines = (f"{name}\0{content(path)}\n" for name, path in found.items())
    return sha256("".join(lines).encode()).hexdigest() if found else None


MARK = ".made_from"


def workspace(folder: str | Path, made_from: str) -> Path:
    """Return a folder for a job's bulk output, which Snakemake does not know and so does not delete.

    What an earlier attempt of the same job left there stays, to be resumed; what was made from other inputs (another
    `made_from`) is deleted.
    """
    folder = Path(folder)
    if not made_from or workspace_inputs(folder) != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(folder / MARK, made_from)
    return folder


def workspace_inputs(folder: str | Path) -> str:
    """Return what a `workspace` is made from; an empty string for another folder."""
    mark = Path(folder) / MARK
    return mark.read_text() if mark.exists() else ""
