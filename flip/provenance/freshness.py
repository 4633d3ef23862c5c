"""Which receipts are still true, told to whoever looks at file times.

A workflow engine asks whether an input is newer than a result. Git, DVC and rsync give files new times at will, so
that question has no honest answer after a clone, a pull or a change of branches. Here the times are made to say what
the contents say: specs and true receipts get one time, receipts that no longer hold an older one.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from flip.files import file_hash, place_files, place_hash
from flip.provenance.receipt import SEAL, absent, behind, is_there, products, read

# Seconds since 1970; 0 would mean to Snakemake that a file is missing.
TRUE, FALSE = 1_000_000_000, 1
LOST = {"made_from": {"after": []}}  # stands for a receipt that is not there


class Conflict(ValueError):
    """A file is not what its receipt says, and DVC has the right one; or a receipt is not what was written."""


def recorded(lock="dvc.lock") -> tuple[str, ...]:
    """Files and folders that DVC can bring back."""
    if not Path(lock).exists():
        return ()
    try:
        stages = (yaml.load(Path(lock).read_text(), yaml.CSafeLoader) or {}).get("stages", {})
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError):
        raise Conflict(
            f"{lock}: no record of DVC's, for instance with a conflict of a merge in it; resolve it, or `git checkout "
            f"{lock}` and `dvc commit`"
        ) from None
    return tuple(out["path"] for stage in stages.values() for out in stage.get("outs", []))


def is_recorded(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


@dataclass(frozen=True)
class Receipts:
    """All receipts of a scale, by path; `places` is what DVC has recorded."""

    known: dict[str, dict]
    places: tuple[str, ...]

    @cached_property
    def dependents(self) -> dict[str, list[str]]:
        found = {path: [] for path in self.known}
        for path, receipt in self.known.items():
            for before in receipt["made_from"]["after"]:
                if before in found:
                    found[before].append(path)
        return found

    def holds(self, path: str) -> bool:
        """Whether parameters, code and the results before it are those that the result was made from.

        Files from outside that are not here, as after a clone, are taken to be the same.
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

    def lost(self, path: str) -> bool:
        """Whether a product is neither here nor with DVC."""
        return any(not is_recorded(product, self.places) for product in absent(self.known[path]))

    @cached_property
    def false(self) -> set[str]:
        """Receipts whose results are to be made again.

        What only serves the next stages (pictures as downloaded) may be missing for as long as those stand.
        """
        found = set()

        def look(path: str) -> bool:
            if path in seen:
                return path in found
            seen.add(path)
            needed = any(look(one) for one in self.dependents[path])
            if not self.holds(path) or ((needed or not self.known[path]["scratch"]) and self.lost(path)):
                found.add(path)
            return path in found

        seen = set()
        for path in self.known:
            look(path)
        return found

    def chain(self, path: str) -> dict[str, dict]:
        """A receipt and all that it was made after; an empty one where a receipt is missing."""
        return behind(path, lambda one: self.known.get(one, LOST))

    def stands(self, path: str) -> bool:
        """Whether a receipt is there and true, as are all that it was made after."""
        return all(one in self.known and one not in self.false for one in self.chain(path))

    def conflicts(self) -> list[str]:
        """Products of true receipts that are here with another content."""
        return [
            product
            for path, receipt in self.known.items()
            if path not in self.false
            for product, content in products(receipt).items()
            if Path(product).exists() and not is_there(product, content)
        ]


def read_receipts(folder, lock="dvc.lock") -> Receipts:
    """Return all receipts below a folder.

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
    return Receipts(found, recorded(lock))


def made_after_others(receipts: Receipts, path: str, after: list[str]) -> bool:
    """Whether a receipt is there that was made after other ones than are asked for now."""
    return path in receipts.known and receipts.known[path]["made_from"]["after"].keys() != set(after)


def unavailable(receipts: Receipts, places: dict[str, str]) -> list[str]:
    """What is wrong with files from outside, by the key of params.yaml that names each: those that are not here, unless
    a result that stands was made from them."""
    standing = (one for path, one in receipts.known.items() if path not in receipts.false)
    read_before = {place for receipt in standing for place in receipt["made_from"]["sources"]}
    return [
        f"params.yaml, {key}: '{place}': no such file; copy it there, name another one, or set the key to null"
        for key, place in places.items()
        if place not in read_before and not place_files(place)
    ]


def leftovers(folder, variants) -> list[str]:
    """Results of variants that params.yaml no longer has, or has under another name."""
    return [str(path) for path in sorted(Path(folder).glob("*")) if path.is_dir() and path.name not in variants]


def set_time(path, seconds: int) -> None:
    if os.stat(path).st_mtime_ns != seconds * 10**9:
        os.utime(path, (seconds, seconds))


def align(receipts, specs) -> Receipts:
    """Makes the times of a scale's receipts and specs say which receipts are true.

    Raises:
        Conflict: files that are not what true receipts say, while DVC has the right ones.
    """
    found = read_receipts(receipts)
    changed = found.conflicts()
    if kept := [product for product in changed if is_recorded(product, found.places)]:
        raise Conflict(
            f"not what their receipts say: {', '.join(kept)}; `dvc checkout {kept[0]}` brings back the recorded one, "
            "`git checkout` the receipt that belongs to this one; to have it made again, delete it and its receipt"
        )
    for path, receipt in found.known.items():
        unlike = not set(changed).isdisjoint(products(receipt))
        set_time(path, FALSE if path in found.false or unlike else TRUE)
    for spec in Path(specs).rglob("*.json"):
        set_time(spec, TRUE)
    return found
