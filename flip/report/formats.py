"""Format numbers as text, the same in Markdown and on the page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flip.metrics.measures import MEASURES

if TYPE_CHECKING:
    from flip.report.columns import TableRow


def interval(value: float, low: float, high: float, form: str = ".1f") -> str:
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


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
        counts = sorted({one["images"] for one in data.values()})
        least = f"{counts[0]:,} to " if len(counts) > 1 else ""  # train.data_share differs
        return f"Trained on {least}{counts[-1]:,} images{part}, manifest {first['manifest'][:12]}."
    rows = [f"{name} on {one['images']:,} images, manifest {one['manifest'][:12]}" for name, one in data.items()]
    meaning = "the manifests hold other pairs, so differences between rows are also those of the data"
    if all(other["pairs"] == first["pairs"] for other in others):
        meaning = "the manifests hold the same pairs of image and caption, stored differently"
    return f"Rows are trained on different manifests: {'; '.join(rows)}. Mind that {meaning}."


def lacking(test: str) -> str:
    """Say that a set is not among the columns, and why."""
    return f"{test} is not measured: evaluate.sets.{test} is null at this scale."


def unsized(metrics: list[str]) -> str:
    """Say that the paper's noise is unknown but for rounding."""
    names = ", ".join(metrics)
    return f"Of {names} it is not known how many images the paper's values are of: of its noise, only rounding counts."


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def commit(git: dict) -> str:
    """Format the commit that a result was made with."""
    return (git["commit"] or "outside a repository") + (" with changes" if git["changed"] else "")


def test_sets(sets: dict) -> str:
    return "; ".join(
        f"{name}: {test['samples']:,} images"
        + (f", {test['classes']:,} classes" if test["classes"] else "")
        + (f", {MEASURES[test['measure']].title}" if "measure" in test else "")
        + (f", chance {test['chance']:.2g}%" if test["chance"] else "")
        + (f", linear probe fitted to {fitted:,} more" if (fitted := test.get("train", {}).get("samples")) else "")
        for name, test in sets.items()
    )
