"""Compute METEOR (Denkowski and Lavie 2014) and SPICE (Anderson et al. 2016) of captions, by pycocoevalcap's jars.

They need Java, and SPICE a parser that pycocoevalcap would download: `missing` says what is missing, and nothing is
downloaded here. Texts are words with single spaces between them, in lower case and without punctuation.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np

# Numbers and letters are read alike whatever the machine's locale is.
LOCALE = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")
MEMORY = {"meteor": "-Xmx2G", "spice": "-Xmx8G"}  # as pycocoevalcap has it
PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
CHUNKS, LENGTHS, MATCHED = 20, [0, 1], [21, 22]  # indices of METEOR's counts; of caption and reference


def package() -> Path | None:
    """Return the folder of pycocoevalcap (the extra `captioning`), which is not imported: its jars are run."""
    found = find_spec("pycocoevalcap")
    places = found.submodule_search_locations if found else None
    return Path(places[0]) if places else None


def jar(name: str) -> Path:
    """Return the path of a jar in the folder of pycocoevalcap, which has to be installed."""
    folder = package()
    assert folder is not None  # see `missing`
    return folder / name


def missing(score: str) -> str | None:
    """Return why 'meteor' or 'spice' cannot be computed on this machine; None if it can."""
    if shutil.which("java") is None:
        return f"{score.upper()} needs Java, which is not installed"
    if (folder := package()) is None:
        return f"{score.upper()} needs the package pycocoevalcap: pip install 'flip[captioning]'"
    if score == "spice" and not all((folder / "spice/lib" / name).exists() for name in PARSER):
        return (
            f"SPICE needs {' and '.join(PARSER)} of nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip "
            "in pycocoevalcap/spice/lib"
        )
    return None


def command(score: str, jar: Path, *options: str | Path) -> list[str]:
    """Return the command that runs a jar."""
    return ["java", MEMORY[score], *LOCALE, "-jar", str(jar), *map(str, options)]


def failure(score: str, code: int, errors: IO[bytes]) -> ValueError:
    """Return the error for a process that failed: how it ended, and the last line of its standard error."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    how = f"was killed by signal {-code} (9: often for memory)" if code < 0 else f"ended with exit code {code}"
    return ValueError(
        f"{score.upper()}: its Java process {how}{': ' if said else ''}{''.join(said)}; run the job again"
    )


class Lines:
    """Talk to a process that answers each line with a line.

    Raises:
        ValueError: the process has ended when it is asked, or should answer.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self.process, self.errors = process, errors

    def ask(self, *parts: str) -> None:
        """Send a line of parts."""
        assert self.process.stdin is not None  # a pipe
        try:
            self.process.stdin.write(" ||| ".join(parts) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise failure("meteor", self.process.wait(), self.errors) from None

    def answer(self) -> str:
        """Return the next line of the process."""
        assert self.process.stdout is not None  # a pipe
        if line := self.process.stdout.readline():
            return line.strip()
        raise failure("meteor", self.process.wait(), self.errors)

    def close(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def without_spaces(path: Path) -> Iterator[Path]:
    """Give a copy of a file and of what lies beside it, where its own path has a space: METEOR's jar does not find its
    data there, nor by a link, which Java follows."""
    if " " not in str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(path.parent, Path(folder, "jar"))) / path.name


@contextmanager
def meteor_process() -> Iterator[Lines]:
    """Run METEOR as a process that answers."""
    pipe = subprocess.PIPE
    with without_spaces(jar("meteor/meteor-1.5.jar")) as path, tempfile.TemporaryFile() as errors:
        words = command("meteor", path, "-", "-", "-stdio", "-l", "en", "-norm")
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=errors, encoding="utf-8")
        lines = Lines(process, errors)
        try:
            yield lines
        finally:
            lines.close()


def counted(process: Lines, captions: list[str], references: list[list[str]]) -> np.ndarray:
    """Return METEOR's counts of words and matches of each image [images, counts]; those of a set are their sums."""
    found = []
    for caption, some in zip(captions, references, strict=True):
        process.ask("SCORE", *some, caption)
        found.append(process.answer().split())
    return np.array(found, float)


def evaluated(process: Lines, counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Return METEOR of each row of counts [rows], and of all rows together."""
    process.ask("EVAL", *(" ".join(map(repr, row)) for row in counts.tolist()))
    return np.array([float(process.answer()) for _ in counts]), float(process.answer())


def spread(process: Lines, counts: np.ndarray) -> np.ndarray:
    """Return jackknife values of METEOR of all rows of counts together [rows]; their mean is the score."""
    _, whole = evaluated(process, counts)
    # Chunks of a caption that equals a reference are not penalized; METEOR leaves them out of a set's counts, too.
    right = (counts[:, CHUNKS] == 1) & (counts[:, LENGTHS] == counts[:, MATCHED]).all(axis=1)
    faults = counts.copy()
    faults[right, CHUNKS] = 0
    without, _ = evaluated(process, faults.sum(axis=0) - faults)
    return whole + (len(counts) - 1) * (without.mean() - without)


def meteor(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """Return values per image [images] whose mean is METEOR 1.5 of the whole set, at most 1.

    Raises:
        ValueError: its process failed.
    """
    with meteor_process() as process:
        return spread(process, counted(process, captions, references))


def spice(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """Return SPICE, an F-score of at most 1, of each image [images].

    Raises:
        ValueError: its process failed.
    """
    asked = [
        {"image_id": row, "test": caption, "refs": some}
        for row, (caption, some) in enumerate(zip(captions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        given, result = Path(folder, "captions.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(asked))
        words = command("spice", jar("spice/spice-1.0.jar"), given, "-out", result, "-silent")
        if code := subprocess.run(words, cwd=folder, stdout=errors, stderr=errors, check=False).returncode:
            raise failure("spice", code, errors)
        scores = {one["image_id"]: one["scores"]["All"]["f"] for one in json.loads(result.read_text())}
    return np.array([scores[row] for row in range(len(captions))], float)


SCORES = {"meteor": meteor, "spice": spice}
