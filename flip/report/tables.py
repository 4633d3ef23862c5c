"""Make the tables, the trade-off figure and the page of one report at one scale.

    python -m flip.report.tables --scale tiny --report ablations --data data/tiny --results results/tiny \\
        --receipts receipts/tiny --out tables/tiny/ablations
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from flip.config.resolve import read_project
from flip.data.manifest import COUNTS
from flip.files import write_atomic
from flip.report import charts, formats, page, records, scaling, tradeoff, vega
from flip.report.cells import Builder, Comparison, leading_metric
from flip.report.columns import Cell, Column, TableRow, folded
from flip.report.latex import latex
from flip.report.results import Results, read_results
from flip.report.swept import tried

OWN = re.compile("tables|ledger|scaling-laws|(figure|time)-.*")  # names of a report's other files


def markdown_cell(row: TableRow, cell: Cell) -> str:
    parts = [f"**{cell.text}**" if cell.metric else cell.text, *([cell.missing] if cell.missing else [])]
    if beside := cell.column.beside(row):
        parts = [f"{cell.text} ({' '.join(beside)})"]
    if cell.reference:
        parts.append(f"{cell.compared} vs {cell.reference}")
    if cell.printed:
        parts.append(f"paper {cell.printed}")
    if cell.verdict:
        parts.append(cell.verdict)
    return "<br>".join(parts)


def markdown_row(row: TableRow, columns: list[Column]) -> list[str]:
    name = f"**{row.variant}**" + (f" <sup>{row.marks}</sup>" if row.marks else "")
    name += f"<br>{row.label}" if row.label else ""
    return [name, *(markdown_cell(row, cell) for cell in row.cells if cell.column in columns)]


def markdown_group(rows: list[TableRow], columns: list[Column]) -> str:
    """Return some columns of a table in Markdown."""
    head = ["row", *(one.title or "" for one in columns)]
    lines = [head, ["---"] * len(head), *(markdown_row(row, columns) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(table: Comparison) -> str:
    """Return the table with its evidence in Markdown, for GitHub."""
    groups = folded([one for one in table.columns if one.title], lambda one: one.metric is not None)
    body = "\n\n".join(markdown_group(table.rows, columns) for columns in groups)
    notes = [f"{table.trained} Tested on {formats.test_sets(table.sets)}. {formats.seeds(table.rows)}.", *table.notes]
    return f"### Table {table.name}: {table.title}\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def figure_records(
    found: Results, tables: list[Comparison], curves: dict[str, list[tradeoff.TradeoffPoint]]
) -> dict[str, list[dict]]:
    """Return the data of the figures, and the data ledger, by the name of a file."""
    return {
        "figure-tradeoff": charts.tradeoff_records(curves),
        "figure-costs": charts.cost_records(found, tables, leading_metric(found.project)),
        "figure-training": charts.training_records(found),
        "figure-sweeps": [
            {"table": table.name} | one
            for table in tables
            for one in tried(found.project, [row.variant for row in table.rows])
        ],
        "ledger": ledger_records(found.ledger, found.curated),
    }


def ledger_records(ledger: dict, curated: dict[str, dict]) -> list[dict]:
    """Return the counts of the table (tars have none of their own), of each source by its name, of each part, and of
    what was chosen for a variant."""
    table = ledger["table"]
    counted = {"table": {"rows": table["rows"], "lost": table["lost"]}} if "rows" in table else {}
    counted |= ledger.get("sources", {}) | ledger["parts"]
    counted |= {f"curation of {name}": one for name, one in curated.items()}
    return [
        {"part": part, "what": what, "images": count}
        for part, one in counted.items()
        for what, count in {
            **{stage: one[stage] for stage in ("rows", *COUNTS, "pairs") if stage in one},
            **{f"lost: {why}": count for why, count in one["lost"].items()},
        }.items()
    ]


def check_name(table: str) -> None:
    """Check that a table's name can be that of its files.

    Raises:
        ValueError: it would lead elsewhere, or its files would be others of the report.
    """
    if not re.fullmatch("[a-z0-9-]+", table) or OWN.fullmatch(table):
        raise ValueError(
            f"tables: {table!r} cannot be the name of files; allowed: small letters, digits, hyphens, and not what "
            "a report calls its own (tables, ledger, scaling-laws, figure-..., time-...)"
        )


def write(found: Results, out: Path) -> None:
    """Write everything under `out`; the page last, so that it exists only if the rest does.

    Raises:
        ValueError: an input is missing or inconsistent, or a table's name cannot be that of files.
    """
    project, builder = found.project, Builder(found)
    for name in project.tables:
        check_name(name)
    tables = builder.tables()
    curves = tradeoff.curves(found, builder.estimates)
    for table in tables:
        records.write(out, table.name, table.wide())
        write_atomic(out / f"{table.name}.tex", latex(table))
        write_atomic(out / f"{table.name}.md", markdown(table))
    records.write(out, "tables", [record for table in tables for record in table.records()])
    for name, rows in figure_records(found, tables, curves).items():
        records.write(out, name, rows)
    for kind in ("svg", "png") if curves else ():
        write_atomic(out / f"tradeoff.{kind}", tradeoff.draw(curves, leading_metric(project), kind))
    if laws := scaling.summarized(found, builder.estimates):
        scaling.write(laws, out)
    part = page.Part(found, tables, curves, laws)
    if part.time:
        records.write(out, "time-jobs", part.time.job_records())
        records.write(out, "time-stages", part.time.stage_records())
        write_atomic(out / "time.svg", vega.still(part.time_figure))
    write_atomic(out / "index.html", page.render([part], {}))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.report.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--params", default="params.yaml", help="names the tables; default: params.yaml")
    parser.add_argument("--scale", required=True, help="scale whose results these are")
    parser.add_argument("--report", required=True, help="which report of params.yaml to make")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json and ledger.json")
    parser.add_argument("--results", type=Path, required=True, help="folder with one folder per variant")
    parser.add_argument("--receipts", type=Path, required=True, help="folder with the receipts of the scale")
    parser.add_argument("--out", type=Path, required=True, help="folder with cost.json; for tables, figures, the page")
    options = parser.parse_args(argv)
    try:
        project = read_project(options.params, options.scale).of(options.report)
        cost = options.out / "cost.json"
        found = read_results(project, options.data, options.results, options.receipts, cost)
        write(found, options.out)
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
