"""METEOR (Denkowski and Lavie 2014) and SPICE (Anderson et al. 2016) of captions, by the jars of pycocoevalcap.

They need Java, and SPICE a parser that pycocoevalcap would download: `missing` says what is not there, and nothing here
fetches anything. Texts are words with single spaces between them, in lower case and without punctuation.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np

# Numbers and letters are to be read alike whatever the machine's language is.
LOCALE = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")
MEMORY = {"meteor": "-Xmx2G", "spice": "-Xmx8G"}  # as pycocoevalcap has it
PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
CHUNKS, LENGTHS, MATCHED = 20, [0, 1], [21, 22]  # places among METEOR's counts; of caption and reference


def package() -> Path | None:
    """Return the folder of pycocoevalcap (the extra `captioning`), which is not imported: its jars are run."""
    found = find_spec("pycocoevalcap")
    return Path(found.submodule_search_locations[0]) if found else None


def missing(score: str) -> str | None:
    """Say why 'meteor' or 'spice' cannot be computed here; None if it can."""
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


def command(score: str, jar: Path, *options) -> list[str]:
    return ["java", MEMORY[score], *LOCALE, "-jar", str(jar), *map(str, options)]


def ended(score: str, code: int, errors) -> ValueError:
    """Of a process that did not do its work: how it ended, and the last that it said."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    how = f"was killed by signal {-code} (9: often for memory)" if code < 0 else f"ended with exit code {code}"
    return ValueError(
        f"{score.upper()}: its Java process {how}{': ' if said else ''}{''.join(said)}; run the job again"
    )


class Lines:
    """A process that answers lines with lines.

    Raises:
        ValueError: when it is asked, or is to answer, and has ended.
    """

    def __init__(self, process: subprocess.Popen, errors):
        self.process, self.errors = process, errors

    def ask(self, *parts: str) -> None:
        try:
            self.process.stdin.write(" ||| ".join(parts) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ended("meteor", self.process.wait(), self.errors) from None

    def answer(self) -> str:
        if line := self.process.stdout.readline():
            return line.strip()
        raise ended("meteor", self.process.wait(), self.errors)


@contextmanager
def meteor_process() -> Iterator[Lines]:
    jar, pipe = package() / "meteor" / "meteor-1.5.jar", subprocess.PIPE
    words = command("meteor", jar, "-", "-", "-stdio", "-l", "en", "-norm")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=errors, encoding="utf-8")
        try:
            yield Lines(process, errors)
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()


def counted(process: Lines, captions: list[str], references: list[list[str]]) -> np.ndarray:
    """Words and matches of each picture, as METEOR counts them [pictures, counts]; those of a set are their sums."""
    found = []
    for caption, some in zip(captions, references, strict=True):
        process.ask("SCORE", *some, caption)
        found.append(process.answer().split())
    return np.array(found, float)


def evaluated(process: Lines, counts: np.ndarray) -> tuple[np.ndarray, float]:
    """METEOR of each row of counts [rows], and of all together."""
    process.ask("EVAL", *(" ".join(map(repr, row)) for row in counts.tolist()))
    return np.array([float(process.answer()) for _ in counts]), float(process.answer())


def spread(process: Lines, counts: np.ndarray) -> np.ndarray:
    """METEOR of all rows of counts together, as a value per row whose mean it is [rows]: what all would lose without
    the row (the jackknife)."""
    _, whole = evaluated(process, counts)
    # Chunks of a caption that is a reference word for word are no fault; METEOR leaves them out of a set's, too.
    right = (counts[:, CHUNKS] == 1) & (counts[:, LENGTHS] == counts[:, MATCHED]).all(axis=1)
    faults = counts.copy()
    faults[right, CHUNKS] = 0
    without, _ = evaluated(process, faults.sum(axis=0) - faults)
    return whole + (len(counts) - 1) * (without.mean() - without)


def meteor(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """METEOR 1.5 of the whole set, 1 at most, as a value per picture whose mean it is [pictures]."""
    with meteor_process() as process:
        return spread(process, counted(process, captions, references))


def spice(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """SPICE, an F-score of 1 at most, per picture [pictures].

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
        words = command("spice", package() / "spice" / "spice-1.0.jar", given, "-out", result, "-silent")
        if code := subprocess.run(words, cwd=folder, stdout=errors, stderr=errors, check=False).returncode:
            raise ended("spice", code, errors)
        scores = {one["image_id"]: one["scores"]["All"]["f"] for one in json.loads(result.read_text())}
    return np.array([scores[row] for row in range(len(captions))], float)


SCORES = {"meteor": meteor, "spice": spice}
