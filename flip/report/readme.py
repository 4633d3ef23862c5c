"""Put the tables and the figure of a run into the README.

python -m flip.report.readme --tables tables/tiny/ablations --readme README.md --figure docs/tradeoff.svg
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


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.report.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, required=True, help="folder with the tables of a run")
    parser.add_argument("--readme", type=Path, required=True, help="file with the two marks")
    parser.add_argument("--figure", type=Path, required=True, help="where the README's figure goes")
    options = parser.parse_args(argv)
    try:
        pieces = [path.read_text() for path in sorted(options.tables.glob("*.md"))]
        write_atomic(options.readme, replace_results(options.readme.read_text(), "\n".join(pieces)))
        write_atomic(options.figure, (options.tables / "tradeoff.svg").read_bytes())
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
