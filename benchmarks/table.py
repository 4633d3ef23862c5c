"""What was measured, as rows with targets: kept in a JSON file, shown as Markdown.

    python -m benchmarks.table --results benchmarks/results.json

prints every part that was measured so far; with `--readme README.md` (`make readme-performance`) it goes there.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.harness import ROUNDS, Missing
from flip.device import device_name, pick_device
from flip.files import read_json, write_atomic, write_json
from flip.provenance.environment import git_state, machine, versions
from flip.report.readme import marks, replace_between

MARKS = marks("performance", "readme-performance")
SI = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")),
    "FLOP/s": ((1e12, "TFLOP/s"), (1e9, "GFLOP/s")),
}


@dataclass(frozen=True)
class Row:
    """One thing that was measured, and how near it is to its target.

    ours, peer: medians, in `unit`; less is better. who: the peer. ratio: how many times less ours is, or with
    `at_most` ours as a share of the peer's; median of the rounds' ratios, and spread: smallest and largest of them. A
    target is for the ratio, and where there is no peer for what is ours. missing: why there is no number.
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
        """Whether the target is met; None where there is none, or no number."""
        value = self.ours if self.ratio is None else self.ratio
        if value is None or (self.at_least is None and self.at_most is None):
            return None
        return value >= self.at_least if self.at_most is None else value <= self.at_most


def against(
    name: str, unit: str, ours: Sequence[float], who: str, peer: Sequence[float], per: float = 1, **more
) -> Row:
    """A row from the rounds of two forms; `per` is what a round is divided by: samples, for seconds per sample."""
    share = more.get("at_most") is not None
    ratios = [a / b if share else b / a for a, b in zip(ours, peer, strict=True)]
    middle = [statistics.median(values) / per for values in (ours, peer)]
    spread = (min(ratios), max(ratios)) if len(ratios) > 1 else None
    return Row(name, unit, middle[0], who, middle[1], statistics.median(ratios), spread, **more)


def alone(name: str, unit: str, ours: Sequence[float], per: float = 1, **more) -> Row:
    """A row of rounds with nothing beside them."""
    values = [value / per for value in ours]
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Row(name, unit, statistics.median(values), spread=spread, **more)


def attempt(name: str, rows: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """The rows of a comparison; where a peer is not here or memory does not suffice, one that says so."""
    try:
        yield from rows()
    except (Missing, MemoryError, torch.OutOfMemoryError) as error:
        yield Row(name, missing=str(error).split("\n")[0])


def arguments(part: str, about: str) -> argparse.ArgumentParser:
    """What every part can be told."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{part}", description=about.splitlines()[0])
    parser.add_argument("--results", type=Path, help="JSON file whose rows of this part are replaced")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"timed ones; medians count (default: {ROUNDS})")
    parser.add_argument("--dry", action="store_true", help="sizes that show nothing but that it runs, in seconds")
    return parser


def facts() -> dict:
    """What numbers hold for: machine, device, cores, versions, commit."""
    device = {"device": device_name(pick_device()), "cores": len(os.sched_getaffinity(0))}
    return {"machine": machine() | device, "versions": versions() | {"torch": torch.__version__}, "git": git_state()}


def publish(part: str, rows: Iterable[Row], results: Path | None, how: dict) -> list[Row]:
    """Shows rows as they come, and puts them in the place of the part's earlier ones, after each, so that a run that is
    killed leaves what it has measured; `how` is what they were measured with."""
    found, about = [], facts() | {"how": how}
    for row in rows:
        found.append(row)
        print(line(row), flush=True)
        if results:
            kept = read_json(results) if results.exists() else {}
            write_json(results, kept | {part: about | {"rows": [stored(row) for row in found]}})
    return found


def stored(row: Row) -> dict:
    """A row without its empty fields, and whether it meets its target."""
    held = {key: value for key, value in asdict(row).items() if value not in (None, "")}
    return held if row.met is None else held | {"met": row.met}


def restored(held: dict) -> Row:
    fields = {key: value for key, value in held.items() if key != "met"}
    return Row(**fields | ({"spread": tuple(fields["spread"])} if "spread" in fields else {}))


def amount(value: float | None, unit: str) -> str:
    """A number with its unit, in the largest prefix that leaves a digit before the point."""
    if value is None:
        return ""
    steps = SI.get(unit, ((1, unit),))
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{digits(value / size)} {name}".strip()


def digits(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".") if value else "0"


def cells(row: Row) -> list[str]:
    """name, ours, peer, ratio, target and whether it is met, note."""
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
    return f"| {' | '.join(cells(row))} |"


def markdown(results: dict) -> str:
    """Every part: what it was measured on, and its rows."""
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


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="what the parts wrote (JSON)")
    parser.add_argument("--readme", type=Path, help="file with the two marks between which the tables go")
    options = parser.parse_args(argv)
    try:
        found = markdown(read_json(options.results))
        if options.readme:
            write_atomic(options.readme, replace_between(MARKS, options.readme.read_text(), found))
        else:
            print(found)
    except FileNotFoundError as error:
        parser.exit(1, f"{error}; `make bench` writes what was measured\n")
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
