"""Compare tars that lie elsewhere, of which nothing tells when they change, with what was listed of them."""

from pathlib import Path

import pyarrow.parquet as pq

from flip.config.schema import Source
from flip.data.arrived import place_of
from flip.formats import remote
from flip.sources.list_tars import SCHEMA, find_tars


def listed(folder: str | Path) -> dict[str, remote.RemoteFile]:
    """Return the tars elsewhere that the table stage has dealt to the parts in a folder, by URL."""
    paths = sorted(Path(folder).glob("*.parquet"))
    tables = (pq.read_table(path) for path in paths if pq.read_schema(path).names == SCHEMA.names)
    every = (place_of(row) for table in tables for row in table.to_pylist())
    return {one.url: one for one in every if isinstance(one, remote.RemoteFile)}


def changed(known: dict[str, remote.RemoteFile]) -> list[str]:
    """Say of each of the tars that is not what was listed how it differs; each is asked for."""
    faults = []
    for before, now in zip(known.values(), remote.look_up(known), strict=True):
        if isinstance(now, str):
            faults.append(f"{before.url}: {now}")
        elif now != before:
            said = (f"{one.size} bytes, version {one.version or 'unknown'}" for one in (now, before))
            faults.append(f"{before.url}: {' now, and when it was listed '.join(said)}; {remote.AS_BEFORE}")
    return faults


def unlisted(source: Source, known: dict[str, remote.RemoteFile]) -> list[str]:
    """List the tars elsewhere that a source has beyond those that were listed. Raises ValueError as `find_tars`."""
    tars = [one for one in source.named.values() if one.kind == "tars" and remote.is_remote(one.place)]
    return sorted({url for one in tars for url in find_tars(one.place)} - known.keys())


def news(source: Source, folder: str | Path) -> list[str]:
    """Say which tars elsewhere have changed, come or gone since they were dealt to the parts in a folder; nothing where
    none were. Raises ValueError as `find_tars`."""
    if not (known := listed(folder)):
        return []
    return [*changed(known), *(f"{url}: not listed" for url in unlisted(source, known))]
