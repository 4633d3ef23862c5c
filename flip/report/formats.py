"""Numbers as text, the same in Markdown and on the page."""


def interval(value: float, low: float, high: float, form=".1f") -> str:
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def value(cell) -> str:
    return interval(cell.value, cell.low, cell.high)


def difference(cell) -> str:
    """'+1.3 [-0.4, +3.1]', or nothing for a row that is the baseline."""
    if cell.difference is None:
        return ""
    return interval(cell.difference, cell.difference_low, cell.difference_high, "+.1f")


def paper(cell) -> str:
    """The paper's value and its own difference."""
    if cell.paper is None:
        return ""
    return f"{cell.paper:.1f}" + (f" ({cell.paper_difference:+.1f})" if cell.paper_difference is not None else "")


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}×"


def spread(cost: dict, name: str) -> str:
    """The median of a relative time; the rounds' range where there is one."""
    low, high = cost[f"{name}_low"], cost[f"{name}_high"]
    text = times(cost[name])
    return text if low == high else f"{text} [{low:.2f}, {high:.2f}]"


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def test_sets(sets: dict) -> str:
    return "; ".join(
        f"{name}: {test['samples']:,} pictures"
        + (f", {test['classes']:,} classes, chance {test['chance']:.2g}%" if test["chance"] else "")
        for name, test in sets.items()
    )
