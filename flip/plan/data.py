"""Find how many pairs there are, and the bytes and hours until they lie in shards. Imports no torch."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from flip.config.faults import ParameterError
from flip.config.schema import Params
from flip.files import read_json
from flip.plan.facts import facts


@dataclass(frozen=True)
class Data:
    """Hold the rows of the URL list (wanted), the pairs that they become (used), and where the numbers are from."""

    wanted: int
    used: int
    source: str


def rows(params: Params, given: int | None) -> tuple[int, str]:
    """Count the rows of the URL list, and where that is from.

    Raises:
        ParameterError: nothing says how many there are.
    """
    known, source = facts().rows, params.source
    if given:
        return given, "stated, --rows"
    if source.kind == "world":
        return params.world.pictures, "params.yaml, world.pictures"
    if source.sample:
        return source.sample, "params.yaml, source.sample"
    if source.place in known:
        return known[source.place], "stated, flip/plan/facts.yaml"
    raise ParameterError(f"source.{source.key} '{source.place}': how many rows has it? Say so with --rows N")


def find_data(params: Params, given: int | None, arrival: float, folder: str | Path = "data") -> Data:
    """Find the data from the manifest of a run that has been, otherwise rows times the share that arrives and is
    used."""
    wanted, source = rows(params, given)
    manifest = Path(folder) / params.scale / "manifest.json"
    if manifest.exists() and not given:
        return Data(wanted, read_json(manifest)["samples"], f"measured, {manifest}")
    return Data(wanted, int(wanted * arrival), f"{source}; {arrival:.0%} of them arrive")


def stored_bytes(side: int) -> float:
    """Return the bytes of an image with its caption in a shard, by its shorter side in pixels: a power law through
    what is known."""
    known = sorted(facts().pictures.stored_bytes.items())
    (a, low), (b, high) = next((pair for pair in pairwise(known) if side <= pair[1][0]), tuple(known[-2:]))
    return low * (side / a) ** (math.log(high / low) / math.log(b / a))


def download_hours(params: Params, data: Data, original: float, gigabits: float, at_once: int) -> float:
    """Return the hours of one part: by its processes, or by its share of the line while `at_once` parts are under
    way."""
    images, at_once = data.wanted / params.download.parts, min(at_once, params.download.parts)
    by_processes = images / (facts().pictures.download_per_process * params.download.processes)
    by_line = images * original * 8 * at_once / (gigabits * 1e9)
    return max(by_processes, by_line) / 3600
