"""Keep measurements as rows with targets in a JSON file, and print them as Markdown.

    python -m benchmarks.table --results benchmarks/results.json

prints every part that was measured so far; with `--page docs/benchmarks.md` it writes them there (`make
results-performance`).
"""

import argparse
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROUNDS, Missing
from flip.device import device_name, pick_device
from flip.files import read_json, write_atomic, write_json
from flip.provenance.environment import git_state, machine, versions
from flip.report.published import marks, replace_between

MARKS = marks("performance", "results-performance")
SI = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")),
    "FLOP/s": ((1e12, "TFLOP/s"), (1e9, "GFLOP/s")),
}


@dataclass(frozen=True)
class Row:
    """Hold one measurement and its target.

    ours, peer: medians, in `unit`; less is better. who: the peer. ratio: the peer's over ours, or with `at_most` ours
    over the peer's; median of the rounds' ratios. spread: smallest and largest of them. The target (at_least, at_most)
    is for the ratio, or without a peer for ours. missing: why there is no number.
    """

    name: str
    unit: str = ""
    ours: float | None = None
    who: str = ""
    peer: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    missing: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the target is met; None without a target or a number."""
        value = self.ours if self.ratio is None else self.ratio
        if value is None or (self.at_least is None and self.at_most is None):
            return None
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0)


def against(
    name: str, unit: str, ours: Sequence[float], who: str, peer: Sequence[float], per: float = 1, **more: Any
) -> Row:
    """Return a row from the rounds of two forms; `per` divides a round: the samples, for seconds per sample."""
    share = more.get("at_most") is not None
    ratios = [a / b if share else b / a for a, b in zip(ours, peer, strict=True)]
    middle = [statistics.median(values) / per for values in (ours, peer)]
    spread = (min(ratios), max(ratios)) if len(ratios) > 1 else None
    return Row(name, unit, middle[0], who, middle[1], statistics.median(ratios), spread, **more)


def alone(name: str, unit: str, ours: Sequence[float], per: float = 1, **more: Any) -> Row:
    """Return a row from the rounds of one form."""
    values = [value / per for value in ours]
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Row(name, unit, statistics.median(values), spread=spread, **more)


def attempt(name: str, rows: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """Yield the rows of a comparison; if a peer is missing or memory does not suffice, a row that says so."""
    try:
        yield from rows()
    except (Missing, MemoryError, torch.OutOfMemoryError) as error:
        yield Row(name, missing=str(error).split("\n")[0])


def arguments(part: str, about: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every part."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{part}", description=about.splitlines()[0])
    parser.add_argument("--results", type=Path, help="JSON file whose rows of this part are replaced")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timed rounds (default: {ROUNDS})")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, to see in seconds that it runs")
    return parser


def facts() -> dict[str, Any]:
    """Return what measurements depend on: machine, device, cores, versions, commit."""
    device = {"device": device_name(pick_device()), "cores": len(os.sched_getaffinity(0))}
    return {"machine": machine() | device, "versions": versions() | {"torch": torch.__version__}, "git": git_state()}


def publish(part: str, rows: Iterable[Row], results: Path | None, how: dict[str, Any]) -> list[Row]:
    """Print rows as they come, and replace the part's earlier ones in the file after each row.

    A run that is killed so keeps what it has measured. `how` are the settings of the measurement.
    """
    found: list[Row] = []
    about = facts() | {"how": how}
    for row in rows:
        found.append(row)
        print(line(row), flush=True)
        if results:
            kept = read_json(results) if results.exists() else {}
            write_json(results, kept | {part: about | {"rows": [stored(row) for row in found]}})
    return found


def stored(row: Row) -> dict[str, Any]:
    """Return a row as JSON, without its empty fields, and whether it meets its target."""
    held = {key: value for key, value in asdict(row).items() if value not in (None, "")}
    return held if row.met is None else held | {"met": row.met}


def restored(held: dict[str, Any]) -> Row:
    """Return the row that `stored` wrote."""
    fields = {key: value for key, value in held.items() if key != "met"}
    return Row(**fields | ({"spread": tuple(fields["spread"])} if "spread" in fields else {}))


def amount(value: float | None, unit: str) -> str:
    """Format a number with its unit, in the largest prefix that leaves a digit before the point."""
    if value is None:
        return ""
    steps = SI.get(unit, ((1, unit),))
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{digits(value / size)} {name}".strip()


def digits(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".") if value else "0"


def cells(row: Row) -> list[str]:
    """Return the cells of a row: name, ours, peer, ratio, target and whether it is met, note."""
    if row.missing:
        return [row.name, "", "", "", "", f"missing: {row.missing}"]
    ours, ratio, target = amount(row.ours, row.unit), "", ""
    unit = row.unit if row.ratio is None else ""
    spread = " ({} to {})".format(*(amount(one, unit) for one in row.spread)) if row.spread else ""
    if row.ratio is None:
        ours += spread
    else:
        ratio = digits(row.ratio) + spread
    if row.met is not None:
        bound = f"at least {row.at_least:g}" if row.at_most is None else f"at most {row.at_most:g}"
        target = f"{bound}: {'met' if row.met else 'not met'}"
    peer = f"{amount(row.peer, row.unit)} ({row.who})" if row.peer is not None else ""
    return [row.name, ours, peer, ratio, target, row.note]


def line(row: Row) -> str:
    """Return a row as a line of a Markdown table."""
    return f"| {' | '.join(cells(row))} |"


def markdown(results: dict[str, Any]) -> str:
    """Return every part as Markdown: what it was measured on, and its rows."""
    found = [
        "The ratio says how many times less flip takes, and where the target is `at most`, which share; median of the "
        "rounds' ratios, with smallest and largest."
    ]
    for part, content in results.items():
        about, used = content["machine"], content["versions"]
        names = ", ".join(f"{name} {version}" for name, version in used.items())
        how = ", ".join(f"{key} {value}" for key, value in content["how"].items())
        found += ["", f"**{part}**: {about['device']}, {about['cores']} cores; {how}.", ""]
        found += ["| what | flip | the other | ratio | target | |", "|" + "---|" * 6]
        found += [line(restored(row)) for row in content["rows"]]
        found += ["", f"<sub>{names}</sub>"]
    return "\n".join(found)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, or write them to a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="what the parts wrote (JSON)")
    parser.add_argument("--page", type=Path, help="file with the two marks between which the tables go")
    options = parser.parse_args(argv)
    try:
        found = markdown(read_json(options.results))
        if options.page:
            write_atomic(options.page, replace_between(MARKS, options.page.read_text(), found))
        else:
            print(found)
    except FileNotFoundError as error:
        parser.exit(1, f"{error}; `make bench` writes what was measured\n")
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
