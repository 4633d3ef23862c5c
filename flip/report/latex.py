"""Write tables for LaTeX with the package booktabs: values, intervals, paired differences, the paper's values,
costs."""

from flip.report import costs, formats
from flip.report.cells import Cell, Comparison, TableRow
from flip.report.labels import column

# What TeX would read as a command.
SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"}
SPECIAL |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}


def escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


def small(text: str) -> str:
    return f"{{\\scriptsize {text}}}" if text else ""


def signed(numbers: str) -> str:
    """Replace hyphens by minus signs."""
    return numbers.replace("-", "$-$")


def stacked(lines: list[str], side: str) -> str:
    """Return the lines of one cell."""
    rows = r" \\ ".join(lines)
    return rows if len(lines) == 1 else f"\\shortstack[{side}]{{{rows}}}"


def cell(one: Cell) -> str:
    """Return a cell in up to three lines: the value with its interval, the difference with its own, the paper's
    value."""
    if one.value is None:
        return small(f"-- {escaped(one.missing or '')}")
    lines = [f"{one.value:.1f} {small(formats.value(one).partition(' ')[2])}"]
    if one.difference is not None:
        assert one.reference is not None
        lines.append(small(f"{signed(formats.difference(one))} vs {escaped(one.reference)}"))
    if one.paper is not None:
        lines.append(small(f"paper {signed(formats.paper(one))}"))
    return stacked(lines, "r")


def row(one: TableRow) -> str:
    name = stacked([escaped(one.variant), *([small(escaped(one.label))] if one.label else [])], "l")
    numbers = [escaped(column.number(one)) for column in costs.in_latex()]
    return " & ".join([name, *map(cell, one.cells), *numbers]) + " \\\\"


def latex(table: Comparison) -> str:
    """Return a table environment; its caption says what it was trained and tested on."""
    heads = ["Row", *(f"{column(cell.metric)}, %" for cell in table.rows[0].cells)]
    heads += [one.in_latex or "" for one in costs.in_latex()]
    said = f"{table.title}. {table.trained} Tested on {formats.test_sets(table.sets)}. {formats.seeds(table.rows)}."
    lines = [
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{escaped(' '.join([said, *table.notes]))}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(map(escaped, heads)) + " \\\\",
        "\\midrule",
        *map(row, table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"
