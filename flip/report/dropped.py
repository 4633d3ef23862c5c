"""Show images that were dropped as copies, each above the image that it is a copy of.

Both are read from the download and the test sets, which a clone of the project need not have.
"""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flip.config import public
from flip.data.contact_sheet import SIDE, cell, label, sheet, spread, webp
from flip.data.duplicates import REASONS
from flip.files import read_json
from flip.formats.contents import encoded_image, read
from flip.formats.images import decode
from flip.formats.tar_members import IMAGES, members
from flip.report.images import Sheet

EACH = 6  # pairs of each reason
SHOWN = [reason for reason in REASONS if reason != "exact duplicate"]  # of which both images are the same
TAR = 5  # digits of the number of img2dataset's tars, with which its keys begin
GAP = (128, 128, 128)


def place_of(data: Path, name: str) -> tuple[Path, str]:
    """Return the tar and the key of an image, by its name in the files of duplicates: `<part>-<key>`, or
    `<set>/<split>/<tar>: <key>` of a test image."""
    before, _, key = name.partition(": ")
    if not key:
        part, _, key = name.partition("-")
        return data / "download" / part / f"{key[:TAR]}.tar", key
    test, _, tar = before.partition("/")
    folder = data / "tests" / test
    if not (folder / "test").exists():
        folder = public.folder(read_json(folder / "revision.json")["source"])
    return folder / tar, key


def look(data: Path, name: str) -> np.ndarray:
    """Return an image of a name as a cell of a sheet, uint8 [SIDE, SIDE, 3]: whole, on grey.

    Raises:
        OSError: its tar is not there.
        ValueError: the tar has no such image, or it cannot be decoded.
    """
    tar, key = place_of(data, name)
    if not (files := members(tar).get(key)):
        raise ValueError(f"{tar}: no sample '{key}'")
    with open(tar, "rb") as file:
        image = decode(encoded_image(read(file, files, *IMAGES), f"{tar}: {key}"), f"{tar}: {key}").convert("RGB")
    image.thumbnail((SIDE, SIDE))
    square = np.full((max(image.size), max(image.size), 3), GAP, np.uint8)
    top, left = ((len(square) - edge) // 2 for edge in image.size[::-1])
    square[top : top + image.height, left : left + image.width] = np.asarray(image)
    return cell(square)


def chosen(path: Path) -> Iterator[dict[str, str]]:
    """Yield some rows of a file of duplicates, of its beginning, evenly spread: {key, reason, of}."""
    with pq.ParquetFile(path) as file:
        rows = file.read_row_group(0) if file.num_row_groups else file.read()
    for reason in SHOWN:
        mine = rows.filter(pc.equal(rows["reason"], reason))
        yield from mine.take(spread(len(mine), EACH)).to_pylist()


def copies(data: Path) -> tuple[Sheet | None, str]:
    """Return a sheet of images dropped because of the first bucket, or why there is none."""
    path = data / "duplicates" / "0.parquet"
    try:
        rows = list(chosen(path))
        stacks = [[look(data, row["key"]), look(data, row["of"]), label("", row["reason"], (0, 0, 0))] for row in rows]
    except (OSError, ValueError, KeyError) as error:
        return None, str(error)
    if not stacks:
        return None, "none was found"
    pixels = sheet(stacks)
    source = f"data:image/webp;base64,{b64encode(webp(pixels)).decode()}"
    alt = "Images that were dropped, and below each the image that it is a copy of."
    words = "; ".join(f"{row['key']} of {row['of']}" for row in rows)
    return Sheet("Dropped, and below what it is a copy of", source, (pixels.shape[1], pixels.shape[0]), alt, words), ""
