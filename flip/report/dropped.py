"""Show images that were dropped as copies, each above the image that it is a copy of.

Both are read from the download and the test sets, which a clone of the project need not have.
"""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flip.config import public
from flip.data.arrived import arrived_tar
from flip.data.contact_sheet import SIDE, cell, label, sheet, spread, webp
from flip.data.dropped import name_of
from flip.data.duplicates import REASONS
from flip.data.fingerprints import read
from flip.data.tar_cache import local, not_fetched
from flip.files import read_json
from flip.formats.contents import image_extension
from flip.formats.images import decode
from flip.formats.tar_members import members
from flip.report.images import Sheet

EACH = 6  # pairs of each reason
SHOWN = [reason for reason in REASONS if reason != "exact duplicate"]  # of which both images are the same
GAP = (128, 128, 128)


def of_part(data: Path, name: str) -> bytes:
    """Return the stored image of a key of the training data.

    Raises:
        OSError: its tar is not there.
        ValueError: no tar of its part has it.
    """
    part, _, key = name.partition("-")
    lists = sorted((data / "download" / part).glob("*.parquet"))
    # Most keys begin with their tar's number.
    for listed in [one for one in lists if key.startswith(one.stem)] or lists:
        tar = arrived_tar(listed)
        for sample in tar.samples:
            if sample.key == name:
                with local(tar.path, not_fetched) as path:
                    return read(path, [sample.place])[0]
    raise ValueError(f"{data / 'download' / part}: no image '{name}'")


def of_test(data: Path, name: str) -> bytes:
    """Return the stored image of a test set, by `<set>/<split>/<tar>: <key>`. Raises as `of_part`."""
    before, _, key = name.partition(": ")
    test, _, tar = before.partition("/")
    folder = data / "tests" / test
    if not (folder / "test").exists():
        folder = public.folder(read_json(folder / "revision.json")["source"])
    if not (files := members(folder / tar).get(key)):
        raise ValueError(f"{folder / tar}: no sample '{key}'")
    return read(folder / tar, [files[image_extension(files, name)]])[0]


def look(data: Path, name: str) -> np.ndarray:
    """Return an image of a name as a cell of a sheet, uint8 [SIDE, SIDE, 3]: whole, on grey.

    Raises:
        OSError, ValueError: as `of_part`; or it cannot be decoded.
    """
    image = decode((of_test if ": " in name else of_part)(data, name), name).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    square = np.full((max(image.size), max(image.size), 3), GAP, np.uint8)
    top, left = ((len(square) - edge) // 2 for edge in image.size[::-1])
    square[top : top + image.height, left : left + image.width] = np.asarray(image)
    return cell(square)


def chosen(path: Path) -> Iterator[dict[str, Any]]:
    """Yield some rows of a group's file (flip.data.dropped), evenly spread."""
    rows = pq.read_table(path)
    for reason in SHOWN:
        mine = rows.filter(pc.equal(rows["reason"], reason))
        yield from mine.take(pa.array(spread(len(mine), EACH), pa.int64())).to_pylist()


def copies(data: Path) -> tuple[Sheet | None, str]:
    """Return a sheet of dropped images of the first group of parts, or why there is none."""
    path = next(iter(sorted((data / "dropped").glob("*.parquet"))), data / "dropped/0.parquet")
    try:
        rows = [row | {"of": name_of(data / "fingerprints", row["of"])} for row in chosen(path)]
        stacks = [[look(data, row["key"]), look(data, row["of"]), label("", row["reason"], (0, 0, 0))] for row in rows]
    except (OSError, ValueError, KeyError, StopIteration) as error:
        return None, str(error)
    if not stacks:
        return None, "none was found"
    pixels = sheet(stacks)
    source = f"data:image/webp;base64,{b64encode(webp(pixels)).decode()}"
    alt = "Images that were dropped, and below each the image that it is a copy of."
    words = "; ".join(f"{row['key']} of {row['of']}" for row in rows)
    return Sheet("Dropped, and below what it is a copy of", source, (pixels.shape[1], pixels.shape[0]), alt, words), ""
