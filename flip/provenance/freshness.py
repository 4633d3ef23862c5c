"""Decide by content which receipts are fresh, and set file times to say so.

A workflow engine asks whether an input is newer than a result. Git, DVC and rsync give files new times, so that
question has no answer after a clone, a pull or a change of branches. Here the times are set to what the contents say:
specs and fresh receipts get one time, stale receipts an older one.
"""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from flip.files import file_hash, place_files, place_hash, write_atomic
from flip.provenance.collect import COLLECTING
from flip.provenance.receipt import SEAL, absent, behind, is_there, outputs, read
from flip.provenance.tracked import Conflict

# Seconds since 1970; 0 would mean to Snakemake that a file is missing.
FRESH_TIME, STALE_TIME = 1_000_000_000, 1
MISSING_RECEIPT: dict[str, Any] = {"made_from": {"after": []}}  # in place of a receipt that does not exist


@dataclass(frozen=True)
class Receipts:
    """Hold all receipts of a scale, by path; `places` are the results that DVC has recorded."""

    known: dict[str, dict[str, Any]]
    places: frozenset[str]

    @cached_property
    def dependents(self) -> dict[str, list[str]]:
        """Map each receipt to those whose results were made from its result."""
        found: dict[str, list[str]] = {path: [] for path in self.known}
        for path, receipt in self.known.items():
            for before in receipt["made_from"]["after"]:
                if before in found:
                    found[before].append(path)
        return found

    def is_fresh(self, path: str) -> bool:
        """Return whether parameters, code and upstream results are those that the result was made from.

        Files from outside the project that do not exist, as after a clone, are taken to be unchanged.
        """
        inputs = self.known[path]["made_from"]
        spec = Path(inputs["spec"]["path"])
        return (
            SEAL in self.known[path]  # an earlier version wrote none
            and spec.exists()
            and file_hash(spec) == inputs["spec"]["sha256"]
            and all(self.known.get(before, {}).get("id") == found for before, found in inputs["after"].items())
            and all(place_hash(p) in (found, None) for p, found in inputs["sources"].items())
        )

    def output_missing(self, path: str) -> bool:
        """Return whether an output neither exists nor is recorded with DVC."""
        return any(not self.recorded(output) for output in absent(self.known[path]))

    def recorded(self, path: str) -> str | None:
        """Return the result that DVC has recorded which a path is, or lies below; None if there is none."""
        above = [path, *map(str, Path(path).parents)]
        return next((place for place in above if place in self.places), None)

    def is_collected(self, path: str) -> bool:
        """Return whether a receipt only stands for those before it."""
        return self.known[path].get("spec", {}).get("module") == COLLECTING

    @cached_property
    def stale(self) -> set[str]:
        """Return the receipts whose results have to be made again.

        Intermediate outputs (images as downloaded) may be missing for as long as what is made from them is fresh.
        """
        found: set[str] = set()
        seen: set[str] = set()

        def look(path: str) -> bool:
            if path in seen:
                return path in found
            seen.add(path)
            wanted = needed(path) or not self.known[path]["scratch"]
            if not self.is_fresh(path) or (wanted and self.output_missing(path)):
                found.add(path)
            return path in found

        @cache
        def needed(path: str) -> bool:
            """Return whether something that reads the outputs is stale, as itself or by one file for many."""
            return any(look(one) or (self.is_collected(one) and needed(one)) for one in self.dependents[path])

        for path in self.known:
            look(path)
        return found

    def chain(self, path: str) -> dict[str, dict[str, Any]]:
        """Return a receipt and all receipts upstream of it, by path; an empty one where a receipt is missing."""
        return behind(path, lambda one: self.known.get(one, MISSING_RECEIPT))

    def chain_is_fresh(self, path: str) -> bool:
        """Return whether a receipt and all receipts upstream of it exist and are not stale."""
        return all(one in self.known and one not in self.stale for one in self.chain(path))

    def conflicts(self) -> list[str]:
        """List the outputs of fresh receipts that exist with another content."""
        return [
            output
            for path, receipt in self.known.items()
            if path not in self.stale
            for output, content in outputs(receipt).items()
            if Path(output).exists() and not is_there(output, content)
        ]


def read_receipts(folder: str | Path, places: Iterable[str] = ()) -> Receipts:
    """Read all receipts below a folder; `places` are the results that DVC has recorded.

    Raises:
        Conflict: some are damaged or were edited; all of them are named.
    """
    found, faults = {}, []
    for path in sorted(path for path in Path(folder).rglob("*.json") if path.is_file()):
        try:
            found[str(path)] = read(path, old=True)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise Conflict("\n".join(faults))
    return Receipts(found, frozenset(places))


def has_other_upstream(receipts: Receipts, path: str, upstream: list[str]) -> bool:
    """Return whether a receipt exists whose upstream receipts are not those that are asked for now."""
    return path in receipts.known and receipts.known[path]["made_from"]["after"].keys() != set(upstream)


def unavailable(receipts: Receipts, places: dict[str, str]) -> list[str]:
    """Return a message for each file from outside the project that does not exist, unless a fresh result was made from
    it; `places` maps the key of params.yaml that names a file to its path."""
    fresh = (one for path, one in receipts.known.items() if path not in receipts.stale)
    read_before = {place for receipt in fresh for place in receipt["made_from"]["sources"]}
    return [
        f"params.yaml, {key}: '{place}': no such file; copy it there, name another one, or set the key to null"
        for key, place in places.items()
        if place not in read_before and not place_files(place)
    ]


def leftovers(folder: str | Path, variants: Collection[str]) -> list[str]:
    """List the results of variants that params.yaml no longer has, or has under another name."""
    return [str(path) for path in sorted(Path(folder).glob("*")) if path.is_dir() and path.name not in variants]


def set_time(path: str | Path, seconds: int) -> None:
    """Set the modification time of a file (seconds since 1970), unless it has that time already.

    Only its owner may; in a folder that several people share, a copy takes the place of another one's file.
    """
    if os.stat(path).st_mtime_ns == seconds * 10**9:
        return
    try:
        os.utime(path, (seconds, seconds))
    except PermissionError:
        write_atomic(path, Path(path).read_bytes())
        os.utime(path, (seconds, seconds))


def align(receipts: str | Path, specs: str | Path, places: Iterable[str] = ()) -> Receipts:
    """Set the times of a scale's receipts and specs, two folders, by which receipts are fresh; return the receipts.

    `places` are the results that DVC has recorded.

    Raises:
        Conflict: files differ from what fresh receipts state, while DVC has the recorded ones.
    """
    found = read_receipts(receipts, places)
    changed = found.conflicts()
    if kept := [output for output in changed if found.recorded(output)]:
        raise Conflict(
            f"not what their receipts say: {', '.join(kept)}; `dvc checkout {kept[0]}` brings back the recorded one, "
            "`git checkout` the receipt that belongs to this one; to have it made again, delete it and its receipt"
        )
    for path, receipt in found.known.items():
        differs = not set(changed).isdisjoint(outputs(receipt))
        set_time(path, STALE_TIME if path in found.stale or differs else FRESH_TIME)
    for spec in Path(specs).rglob("*.json"):
        set_time(spec, FRESH_TIME)
    return found
