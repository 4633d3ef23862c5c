"""Fingerprint test images, and those that probes are fitted to, so that no training image is equal or similar to one.

    python -m flip.testsets.fingerprints --tests data/tiny/tests/fine/revision.json ... \\
        --out data/tiny/fingerprints/tests.parquet
"""

import argparse
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from flip.config import public
from flip.config.faults import in_lines
from flip.data.fingerprints import HASHES, chunks, in_both, look_at, write
from flip.files import read_json
from flip.formats import layout
from flip.formats.contents import encoded_image
from flip.formats.images import decode
from flip.formats.tar_members import IMAGES

TESTS = pa.schema([("set", pa.string()), ("key", pa.string()), *HASHES])


def decode_evaluated(where: str, faults: list[str], image: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image as evaluation does, in grey and in colour; `where` is for the message, which `faults` gets, too.

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        return in_both(decode(image, where))
    except ValueError as error:
        faults.append(str(error))
        raise


def test_tables(folder: Path, split: str, name: str, faults: list[str]) -> Iterator[pa.Table]:
    """Give the fingerprints of one split of a test set: of every image that an evaluation reads, and of no other;
    `faults` gets a line for each that cannot be decoded.

    Raises:
        ValueError: a sample without an image, or with several.
    """
    for some in chunks(layout.samples(folder, split, *IMAGES)):
        images = [encoded_image(content, where) for where, content in some]
        rows = [
            {"set": name, "key": str(Path(where).relative_to(folder)), "sha256": sha256(image).digest()}
            # What the fast decoders refuse is decoded as in evaluation: all that it reads has a hash.
            | (value if value["looks"] else look_at([image], partial(decode_evaluated, where, faults))[0])
            for image, value, (where, _) in zip(images, look_at(images), some, strict=True)
        ]
        yield pa.Table.from_pylist(rows, schema=TESTS)


def of_tests(revisions: list[Path]) -> Iterator[pa.Table]:
    """Give the fingerprints of all test sets, with those of the training splits that probes are fitted to.

    Each set lies beside its revision or where that says.

    Raises:
        ValueError: as `test_tables`; there are more or fewer images than samples in a revision; or some cannot be
            decoded, with a line for each.
    """
    faults: list[str] = []
    for revision in revisions:
        content, name = read_json(revision), revision.parent.name
        folder = revision.parent if (revision.parent / "test").exists() else public.folder(content["source"])
        stated = {"test": content["samples"], "train": content.get("train", {}).get("samples")}
        for split, samples in stated.items():
            if samples:
                yield from counted(test_tables(folder, split, name, faults), samples, f"{folder / split}")
    if faults:
        raise ValueError(in_lines(faults))


def counted(tables: Iterable[pa.Table], samples: int, where: str) -> Iterator[pa.Table]:
    """Give the tables, and count their rows.

    Raises:
        ValueError: there are other than so many.
    """
    found = 0
    for table in tqdm(tables, desc=where, unit="table", disable=None):
        found += len(table)
        yield table
    if found != samples:
        raise ValueError(
            f"{where}: {found} images, but its revision.json says {samples} samples; run the testsets stage again"
        )


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.testsets.fingerprints", description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=Path, nargs="+", required=True, help="revision.json of each test set")
    parser.add_argument("--out", required=True, help="the fingerprints (parquet)")
    options = parser.parse_args(argv)
    try:
        write(of_tests(options.tests), TESTS, options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
