"""Parse clip-benchmark's webdataset layout of a test set, both to check a set and to read it.

    test/nshards.txt, test/0.tar, test/1.tar, ...     images, and beside each its class, labels or captions
    classnames.txt, zeroshot_classification_templates.txt     of a set with classes, a line each
    dataset_type.txt     what the set is for (flip/config/kinds), unless it is classification

Texts are UTF-8. Lines end at a line feed, with or without a carriage return, and nowhere else.
"""

import io
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from flip.files import known_hash
from flip.formats.contents import contents
from flip.formats.words import has_words

if TYPE_CHECKING:
    import numpy as np

KIND, NAMES, PROMPTS = "dataset_type.txt", "classnames.txt", "zeroshot_classification_templates.txt"
FIELD = "{c}"  # where a class name goes in a prompt


def present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(
            f"{path}: missing; evaluate.sets wants 'world' or a folder in clip-benchmark's webdataset layout "
            "(clip_benchmark_export_wds writes one)"
        )
    return path


def text(content: bytes, where: str | Path) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def lines(content: bytes, where: str | Path) -> list[str]:
    """Return a file's lines; the last one is empty where the file ends in a line feed.

    Raises:
        ValueError: as `text`.
    """
    return [line.removesuffix("\r") for line in text(content, where).split("\n")]


def _listed(path: Path) -> list[str]:
    """Return a file's lines without the spaces around them; lines that are blank may only come last.

    Raises:
        ValueError: no such file, nothing in it, a blank line, or as `text`.
    """
    found = [line.strip() for line in lines(present(path).read_bytes(), path)]
    while found and not found[-1]:
        found.pop()
    if not found:
        raise ValueError(f"{path}: empty; it needs one line or more")
    if "" in found:
        raise ValueError(f"{path}: line {found.index('') + 1} is blank; remove it, or write what it should say")
    return found


def class_names(folder: Path) -> list[str]:
    """Read the class names. Raises ValueError as `_listed`."""
    return _listed(folder / NAMES)


def prompts(folder: Path) -> list[str]:
    """Read the templates, with `{c}` where the class name goes.

    Raises:
        ValueError: as `_listed`; or a line without `{c}`, or with another brace, which `str.format` would look into.
    """
    found = _listed(folder / PROMPTS)
    for number, line in enumerate(found, 1):
        others = line.replace(FIELD, "")
        if others == line or "{" in others or "}" in others:
            raise ValueError(
                f"{folder / PROMPTS}: line {number}, '{line}': each line needs {FIELD} where the class name goes, and "
                "no other braces"
            )
    return found


def stated_kind(folder: str | Path) -> str:
    """Return what dataset_type.txt says, unchecked; classification if there is none. Raises as `text`."""
    path = Path(folder) / KIND
    return text(path.read_bytes(), path).strip().lower() if path.exists() else "classification"


def tars(folder: Path, split: str = "test") -> list[Path]:
    """Return the tar files of a set's split, all of which exist.

    Raises:
        ValueError: one is missing, or nshards.txt is no number.
    """
    path = folder / split / "nshards.txt"
    count = text(present(path).read_bytes(), path).strip()
    if not is_number(count) or int(count) < 1:
        raise ValueError(f"{path}: '{count}' is not a number of tars; write how many {split}/<number>.tar there are")
    return [present(folder / split / f"{number}.tar") for number in range(int(count))]


def set_hash(folder: Path, split: str = "test") -> str:
    """Return the SHA-256 of all that a split is read from: its tars and, with the test split, class names, prompts and
    kind.

    Raises:
        ValueError: as `tars`.
    """
    files = tars(folder, split)
    files += [folder / name for name in (NAMES, PROMPTS, KIND) if split == "test" and (folder / name).exists()]
    lines = (f"{path.relative_to(folder)} {known_hash(path)}" for path in files)
    return sha256("\n".join(lines).encode()).hexdigest()


def is_number(digits: str) -> bool:
    """Return whether it is a whole number in plain digits, without a sign, and not too long."""
    return digits.isascii() and digits.isdigit() and len(digits) < 19


def label(content: bytes, where: str, classes: int) -> int:
    """Return the class that a .cls holds; `where` names its sample.

    Raises:
        ValueError: it is no number, or that of no class.
    """
    found = text(content, f"{where}.cls").strip()
    if not is_number(found):
        raise ValueError(f"{where}.cls is '{found}', not the number of a class; export the set again")
    if int(found) >= classes:
        raise ValueError(
            f"{where}.cls is {found}, but there are {classes} lines in {NAMES}, so classes 0 to {classes - 1}; take "
            "both from the same export"
        )
    return int(found)


def labels(content: bytes, where: str, classes: int) -> "np.ndarray":
    """Return whether each class is there, as an .npy says it: int64 [classes], 0 or 1; `where` names its sample.

    Raises:
        ValueError: it holds something else, or labels of another number of classes.
    """
    import numpy as np  # here, as every dry run loads this module

    try:
        found = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # of numpy, or of Python's parser, which reads the header
        raise ValueError(
            f"{where}.npy is not an array ({' '.join(str(error).split())}); export the set again"
        ) from None
    if found.ndim != 1 or found.dtype.kind not in "biuf" or not np.isin(found, (0, 1)).all():
        raise ValueError(
            f"{where}.npy is {found.dtype} of shape {found.shape}, not one 0 or 1 per class; export the set again"
        )
    if len(found) != classes:
        raise ValueError(
            f"{where}.npy has labels of {len(found)} classes, but there are {classes} lines in {NAMES}; take both from "
            "the same export"
        )
    return found.astype(np.int64)


def captions(content: bytes, where: str) -> list[str]:
    """Return a .txt's captions, a line each; one without words is none. `where` names the sample.

    Raises:
        ValueError: there is none, or as `text`.
    """
    found = [line for line in lines(content, f"{where}.txt") if has_words(line)]
    if not found:
        raise ValueError(f"{where}.txt has no caption; it needs one or more, a line each")
    return found


def samples(folder: Path, split: str, *extensions: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the name of each sample, with its tar's, and its files of these extensions, in the order of a split."""
    for tar in tars(folder, split):
        for key, content in contents(tar, *extensions):
            yield f"{tar}: {key}", content
