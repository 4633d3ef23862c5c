"""Put the tables of a run, and its figure where it has one, into a page of the docs.

python -m flip.report.published --tables tables/tiny/ablations --page docs/results.md --figure docs/tradeoff.svg
python -m flip.report.published --tables tables/tiny/systems tables/tiny/siglip --page docs/systems.md
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from flip.files import write_atomic


def marks(what: str, target: str) -> tuple[str, str]:
    """Return the two lines between which a target of the Makefile writes."""
    return f"<!-- {what}: made by `make {target}` -->", f"<!-- end of {what} -->"


RESULTS = marks("results", "results")


def replace_between(marks: tuple[str, str], text: str, new: str) -> str:
    """Replace the text between the two marks.

    Raises:
        ValueError: a mark is missing.
    """
    for mark in marks:
        if mark not in text:
            raise ValueError(f"no line '{mark}' in the page; put the two marks where the tables belong")
    begin, end = marks
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{new.strip()}\n\n{end}{rest.split(end, 1)[1]}"


def tables_of(folder: Path) -> list[Path]:
    """Return a report's tables.

    Raises:
        ValueError: there is none.
    """
    if not (found := sorted(folder.glob("*.md"))):
        raise ValueError(f"{folder}: no tables; run `snakemake {folder.name}`, which makes them")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.report.published", description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="folders with the tables of reports")
    parser.add_argument("--page", type=Path, required=True, help="file with the two marks")
    parser.add_argument("--figure", type=Path, help="where the first one's figure of that name goes")
    options = parser.parse_args(argv)
    try:
        pieces = [path.read_text() for folder in options.tables for path in tables_of(folder)]
        write_atomic(options.page, replace_between(RESULTS, options.page.read_text(), "\n".join(pieces)))
        if options.figure:
            write_atomic(options.figure, (options.tables[0] / options.figure.name).read_bytes())
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
