"""Count in how many of a part's captions each entry is: what `balance` then chooses pairs by.

    python -m flip.curate.count --params specs/tiny/params/balance.yaml \\
        --samples data/tiny/shards/0000/samples.parquet --out curated/tiny/balance/seed-0/mentions/0000.parquet
"""

import argparse
from collections import Counter
from pathlib import Path

from flip.config.sections.curation import Curation
from flip.curate import read_curation
from flip.curate.captions import first_captions, mentioned
from flip.data.word_counts import write_counts


def count(samples: str | Path, curation: Curation) -> Counter[str]:
    """Count the captions of a part that mention each entry."""
    of, found = mentioned(curation), Counter[str]()
    for _, caption in first_captions(samples):
        found.update(of(caption))
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.curate.count", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters of the variant")
    parser.add_argument("--samples", required=True, help="list of the part's samples (parquet)")
    parser.add_argument("--out", required=True, help="counts by entry (parquet)")
    options = parser.parse_args(argv)
    try:
        write_counts(count(options.samples, read_curation(options.params)), options.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
