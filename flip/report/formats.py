"""Format numbers as text, the same in Markdown and on the page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flip.metrics.measures import MEASURES

if TYPE_CHECKING:
    from flip.report.cells import Cell, TableRow


def interval(value: float, low: float, high: float, form: str = ".1f") -> str:
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def value(cell: "Cell") -> str:
    """Format a value with its interval; a dash if the metric was not measured."""
    if cell.value is None:
        return "-"
    assert cell.low is not None
    assert cell.high is not None
    return interval(cell.value, cell.low, cell.high)


def difference(cell: "Cell") -> str:
    """Format a difference as '+1.3 [-0.4, +3.1]', or nothing without a row to compare with."""
    if cell.difference is None:
        return ""
    assert cell.difference_low is not None
    assert cell.difference_high is not None
    return interval(cell.difference, cell.difference_low, cell.difference_high, "+.1f")


def paper(cell: "Cell") -> str:
    """Format the paper's value and its own difference."""
    if cell.paper is None:
        return ""
    return f"{cell.paper:.1f}" + (f" ({cell.paper_difference:+.1f})" if cell.paper_difference is not None else "")


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def around(cost: dict, name: str) -> str:
    """Format the range of a relative time over the rounds, or nothing where two digits show none."""
    low, high = f"{cost[f'{name}_low']:.2f}", f"{cost[f'{name}_high']:.2f}"
    return "" if low == high else f"[{low}, {high}]"


def duration(seconds: float) -> str:
    """Format seconds as '7.5 s', '12 min 5 s', '30 h 32 min'."""
    if seconds < 59.5:
        return f"{seconds:.2g} s"
    (large, whole), (small, part) = (("min", 60), ("s", 1)) if seconds < 3570 else (("h", 3600), ("min", 60))
    first, rest = divmod(round(seconds / part), whole // part)
    return f"{first:,} {large}" + (f" {rest} {small}" if rest else "")


def seeds(rows: "Sequence[TableRow]") -> str:
    """Format seeds as 'Seeds: 0 1', row by row where they differ."""
    by_row = [f"{row.variant}: {row.evidence['seeds']}" for row in rows]
    alike = len({row.evidence["seeds"] for row in rows}) == 1
    return f"Seeds: {rows[0].evidence['seeds']}" if alike else f"Seeds by row: {', '.join(by_row)}"


def trained(data: dict[str, dict], share: float | None) -> str:
    """Say what the rows of a table were trained on: data by variant, and the share of what was wanted if it is
    known."""
    first, *others = data.values()
    if all(other["manifest"] == first["manifest"] for other in others):
        part = "" if share is None else f" ({share:.1%} of those wanted)"
        counts = sorted({one["pictures"] for one in data.values()})
        least = f"{counts[0]:,} to " if len(counts) > 1 else ""  # train.data_share differs
        return f"Trained on {least}{counts[-1]:,} pictures{part}, manifest {first['manifest'][:12]}."
    rows = [f"{name} on {one['pictures']:,} pictures, manifest {one['manifest'][:12]}" for name, one in data.items()]
    meaning = "the manifests hold other pairs, so differences between rows are also those of the data"
    if all(other["pairs"] == first["pairs"] for other in others):
        meaning = "the manifests hold the same pairs of picture and caption, stored differently"
    return f"Rows are trained on different manifests: {'; '.join(rows)}. Mind that {meaning}."


def lacking(test: str) -> str:
    """Say that a set is not among the columns, and why."""
    return f"{test} is not measured: evaluate.sets.{test} is null at this scale."


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def commit(git: dict) -> str:
    """Format the commit that a result was made with."""
    return (git["commit"] or "outside a repository") + (" with changes" if git["changed"] else "")


def test_sets(sets: dict) -> str:
    return "; ".join(
        f"{name}: {test['samples']:,} pictures"
        + (f", {test['classes']:,} classes" if test["classes"] else "")
        + (f", {MEASURES[test['measure']].title}" if "measure" in test else "")
        + (f", chance {test['chance']:.2g}%" if test["chance"] else "")
        + (f", linear probe fitted to {fitted:,} more" if (fitted := test.get("train", {}).get("samples")) else "")
        for name, test in sets.items()
    )
