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
    """Hold the rows of the source, or samples of its tars (wanted), the pairs that they become (used), and where the
    numbers are from (`source`)."""

    wanted: int
    used: int
    source: str


def rows(params: Params, given: int | None) -> tuple[int, str]:
    """Count the rows of the source, or the samples of its tars, and where that is from.

    Raises:
        ParameterError: nothing says how many there are.
    """
    known, source = facts().rows, params.source
    if given:
        return given, "stated, --rows"
    if source.kind == "world":
        return params.world.images, "params.yaml, world.images"
    if source.sample:
        return source.sample, "params.yaml, source.sample"
    from flip.sources.sizes import rows_of  # here, as it takes a fifth of a second

    try:
        return rows_of(source)
    except (ValueError, OSError) as error:
        if source.place in known:
            return known[source.place], "stated, flip/plan/facts.yaml"
        raise ParameterError(f"{error}; or say with --rows N how many rows there will be") from None


def find_data(params: Params, given: int | None, arrival: float, folder: str | Path = "data") -> Data:
    """Find the data from the ledger of a run that has been, otherwise rows times the share that arrives and is used."""
    ledger = Path(folder) / params.scale / "ledger.json"
    if ledger.exists() and not given:
        total = read_json(ledger)["total"]
        return Data(total["wanted"], total["used"], f"measured, {ledger}")
    wanted, source = rows(params, given)
    return Data(wanted, int(wanted * arrival), f"{source}; {arrival:.0%} of them arrive")


def stored_bytes(side: int) -> float:
    """Return the bytes of an image with its caption in a shard, by its shorter side in pixels: a power law through
    what is known."""
    known = sorted(facts().images.stored_bytes.items())
    (a, low), (b, high) = next((pair for pair in pairwise(known) if side <= pair[1][0]), tuple(known[-2:]))
    return low * (side / a) ** (math.log(high / low) / math.log(b / a))


def download_hours(params: Params, data: Data, original: float, gigabits: float, at_once: int) -> float:
    """Return the hours of one part: by its processes, or by its share of the line while `at_once` parts are under
    way."""
    images, at_once = data.wanted / params.download.parts, min(at_once, params.download.sharing)
    by_processes = images / (facts().images.download_per_process * params.download.processes)
    by_line = images * original * 8 * at_once / (gigabits * 1e9)
    return max(by_processes, by_line) / 3600
