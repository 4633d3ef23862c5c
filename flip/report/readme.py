"""Put the tables of a run, and its figure where it has one, into the README or another page.

python -m flip.report.readme --tables tables/tiny/ablations --readme README.md --figure docs/tradeoff.svg
python -m flip.report.readme --tables tables/tiny/systems tables/tiny/siglip --readme docs/systems.md
"""

import argparse
from pathlib import Path

from flip.files import write_atomic

BEGIN, END = "<!-- results: made by `make readme` -->", "<!-- end of results -->"


def replace_results(text: str, results: str) -> str:
    """The text with what stands between the two marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    for mark in (BEGIN, END):
        if mark not in text:
            raise ValueError(f"no line '{mark}' in the README; put the two marks where the tables belong")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n\n{results.strip()}\n\n{END}{rest.split(END, 1)[1]}"


def tables_of(folder: Path) -> list[Path]:
    """A report's tables.

    Raises:
        ValueError: there is none.
    """
    if not (found := sorted(folder.glob("*.md"))):
        raise ValueError(f"{folder}: no tables; run `snakemake {folder.name}`, which makes them")
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.report.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="folders with the tables of reports")
    parser.add_argument("--readme", type=Path, required=True, help="file with the two marks")
    parser.add_argument("--figure", type=Path, help="where the first one's figure of that name goes")
    options = parser.parse_args(argv)
    try:
        pieces = [path.read_text() for folder in options.tables for path in tables_of(folder)]
        write_atomic(options.readme, replace_results(options.readme.read_text(), "\n".join(pieces)))
        if options.figure:
            write_atomic(options.figure, (options.tables[0] / options.figure.name).read_bytes())
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
