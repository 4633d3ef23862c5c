"""Make one page of several reports at one scale: all that it shows is part of it.

    python -m flip.report.whole --scale tiny --data data/tiny --results results/tiny --receipts receipts/tiny \\
        --tables tables/tiny --out tables/tiny/index.html

A report whose results are not there, or do not belong together, is named on the page with the reason.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flip.config.faults import nearest
from flip.config.resolve import Project, read_project
from flip.files import write_atomic
from flip.report import page, scaling, tradeoff
from flip.report.cells import Builder
from flip.report.results import read_results


def read_part(project: Project, report: str, options: argparse.Namespace) -> page.Part:
    """Build a report.

    Raises:
        ValueError: an input is missing or inconsistent.
    """
    cost = options.tables / report / "cost.json"
    found = read_results(project.of(report), options.data, options.results, options.receipts, cost)
    builder = Builder(found)
    curves, laws = tradeoff.curves(found, builder.estimates), scaling.summarized(found, builder.estimates)
    return page.Part(found, builder.tables(), curves, laws)


def read_parts(project: Project, options: argparse.Namespace) -> tuple[list[page.Part], dict[str, str]]:
    """Return the reports that can be shown, in the order of params.yaml, and why the others cannot.

    Raises:
        ValueError: a report that params.yaml does not have, or none that can be shown.
    """
    parts, absent, wanted = [], {}, options.reports or list(project.reports)
    for name in wanted:
        if name not in project.reports:
            raise ValueError(f"--reports {name}: {nearest(name, project.reports)}")
    for name in project.reports:
        if name not in wanted:
            absent[name] = project.left_out.get(name, f"not asked for; `snakemake {name}` makes its tables")
            continue
        try:
            parts.append(read_part(project, name, options))
        except ValueError as error:
            absent[name] = str(error)
    if not parts:
        raise ValueError("no report can be shown:\n" + "\n".join(f"  {name}: {why}" for name, why in absent.items()))
    return parts, absent


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.report.whole", description=__doc__.splitlines()[0])
    parser.add_argument("--params", default="params.yaml", help="names the reports; default: params.yaml")
    parser.add_argument("--scale", required=True, help="scale whose results these are")
    parser.add_argument("--reports", nargs="+", help="reports of params.yaml to show (default: all that are there)")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.json, ledger.json and shards")
    parser.add_argument("--results", type=Path, required=True, help="folder with one folder per variant")
    parser.add_argument("--receipts", type=Path, required=True, help="folder with the receipts of the scale")
    parser.add_argument("--tables", type=Path, required=True, help="folder with <report>/cost.json")
    parser.add_argument("--out", type=Path, required=True, help="the page (HTML)")
    options = parser.parse_args(argv)
    try:
        project = read_project(options.params, options.scale)
        write_atomic(options.out, page.render(*read_parts(project, options)))
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
