"""Deal several sources to the parts, each to parts of its own, in place of one table.

    python -m flip.sources.several --params specs/mine/params/clip.yaml --out-folder data/mine/table

Each source has parts in proportion to its rows, or the samples of its tars. The account (account.json) says by name
which are whose, and has the account of each source.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from flip.config.frozen import load
from flip.config.schema import Params, Source
from flip.files import read_json, write_json
from flip.sources import list_tars, table
from flip.sources.sizes import rows_of
from flip.sources.table import ACCOUNT, part_paths


class SourceFaults:
    """Collect the faults of several sources, so that all are told at once."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Keep what is wrong with the source of this name."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.faults += [f"source.several.{name}: {line}" for line in str(error).splitlines()]

    def raise_all(self) -> None:
        """Raise ValueError with a line for each fault, if there is any."""
        if self.faults:
            raise ValueError("\n".join(self.faults))


def most_parts(source: Source, rows: int) -> int:
    """Return how many parts a source can have: one for each row, or for each of its tars."""
    return len(list_tars.find_tars(source.place)) if source.kind == "tars" else rows


def parts_of(rows: dict[str, int], most: dict[str, int], parts: int) -> dict[str, range]:
    """Share the parts among sources by their numbers of rows; each has one at least, and no more than `most`.

    Of what is left, each part goes to the source whose parts have most rows.

    Raises:
        ValueError: there are too few parts, or too many.
    """
    if not len(rows) <= parts <= sum(most.values()):
        raise ValueError(
            f"download.parts = {parts}: source.several has {len(rows)} sources, with {sum(most.values())} tars and "
            "rows of tables; allowed: the first number to the second"
        )
    found = dict.fromkeys(rows, 1)
    for _ in range(parts - len(rows)):
        left = [name for name in rows if found[name] < most[name]]
        found[max(left, key=lambda name: rows[name] / found[name])] += 1
    ends = dict(zip(rows, accumulate(found.values()), strict=True))
    return {name: range(ends[name] - found[name], ends[name]) for name in rows}


def shared(params: Params) -> dict[str, range]:
    """Return the numbers of each source's parts. Raises ValueError, with a line for each fault of the sources."""
    named, faulty, rows, most = params.source.named, SourceFaults(), dict[str, int](), dict[str, int]()
    for name, one in named.items():
        with faulty.of(name):
            rows[name] = rows_of(one).number
            most[name] = most_parts(one, rows[name])
    faulty.raise_all()
    return parts_of(rows, most, params.download.parts)


def deal(params: Params, folder: str | Path) -> dict[str, Any]:
    """Deal the sources; write their account beside the parts, and return it.

    Raises:
        ValueError: with a line for each fault of the sources.
    """
    named, faulty, accounts = params.source.named, SourceFaults(), {}
    paths = part_paths(folder, params.download.parts)
    for name, own in shared(params).items():
        with faulty.of(name):
            mine = paths[own.start : own.stop]
            tars = named[name].kind == "tars"
            account = list_tars.deal(named[name], mine) if tars else table.deal(alone(params, name), mine)
            accounts[name] = {"parts": [own.start, own.stop]} | account
    faulty.raise_all()
    write_json(Path(folder) / ACCOUNT, {"sources": accounts})
    return accounts


def alone(params: Params, name: str) -> Params:
    """Return the parameters as if there were no other source."""
    return params.model_copy(update={"source": params.source.named[name]})


def source_of(table: str | Path) -> str:
    """Return the name of the source that a part is of, by the account beside its table."""
    accounts, part = read_json(Path(table).with_name(ACCOUNT))["sources"], int(Path(table).stem)
    return next(name for name, one in accounts.items() if part in range(*one["parts"]))


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.sources.several", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--out-folder", required=True, help="where <part>.parquet go")
    options = parser.parse_args(argv)
    try:
        accounts = deal(load(options.params), options.out_folder)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    for name, one in accounts.items():
        dealt = f"{one['tars']} tars" if "tars" in one else f"{one['wanted']} rows"
        print(f"{name}: {dealt} in {one['parts'][1] - one['parts'][0]} parts")


if __name__ == "__main__":
    main()
