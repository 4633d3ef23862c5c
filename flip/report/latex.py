"""Write tables for LaTeX with the package booktabs: values, intervals, paired differences, the paper's values,
verdicts, costs."""

from flip.report import formats
from flip.report.cells import Comparison
from flip.report.columns import Cell, TableRow

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
    """Return a cost as a number, a metric in up to four lines: the value with its interval, the difference with its
    own, the paper's value, the verdict."""
    if one.metric is None:
        return escaped(one.number)
    if one.value is None:
        return small(f"-- {escaped(one.missing or '')}")
    lines = [f"{one.number} {small(one.range)}"]
    if one.reference:
        lines.append(small(f"{signed(one.compared)} vs {escaped(one.reference)}"))
    if one.printed:
        lines.append(small(f"paper {signed(one.printed)}"))
    if one.verdict:
        lines.append(small(one.verdict))
    return stacked(lines, "r")


def row(one: TableRow) -> str:
    marks = f"\\textsuperscript{{{one.marks}}}" if one.marks else ""
    name = stacked([escaped(one.variant) + marks, *([small(escaped(one.label))] if one.label else [])], "l")
    return " & ".join([name, *(cell(each) for each in one.cells if each.column.in_latex)]) + " \\\\"


def latex(table: Comparison) -> str:
    """Return a table environment; its caption says what it was trained and tested on."""
    heads = ["TableRow", *(one.in_latex for one in table.columns if one.in_latex)]
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
