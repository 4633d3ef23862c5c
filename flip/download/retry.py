"""Have images asked for again that failed for a reason that may have passed: the next run of the download does it.

    python -m flip.download.retry --params specs/tiny/params/clip.yaml --downloads data/tiny/download/*.json \\
        --receipts receipts/tiny/data/download/*.json

Parts for which there is nothing to ask keep what says that they are complete, so they are not run again.
"""

import argparse
from pathlib import Path

from flip.config.frozen import load
from flip.download.shards import DownloadShards


def reopen(account: Path, receipt: Path, per_shard: int) -> int:
    """Add a round to a part, and delete what says that it is complete; return the number of rows to ask for."""
    shards = DownloadShards(account.with_suffix(""), per_shard)
    rows = len(shards.passing()) if account.exists() else 0
    if rows:
        receipt.unlink(missing_ok=True)  # first, as the account is not true once a round is open
        account.unlink()
        shards.ask_again()
    return rows


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.download.retry", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters (specs/<scale>/params/<variant>.yaml)")
    parser.add_argument("--downloads", type=Path, nargs="+", required=True, help="account of every part (JSON)")
    parser.add_argument("--receipts", type=Path, nargs="+", required=True, help="receipt of every part, in this order")
    options = parser.parse_args(argv)
    try:
        per_shard = load(options.params).download.samples_per_shard
        pairs = zip(options.downloads, options.receipts, strict=True)
        rows = [reopen(account, receipt, per_shard) for account, receipt in pairs]
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{sum(rows)} images of {sum(map(bool, rows))} parts are asked for again by the next run (`snakemake data`)")


if __name__ == "__main__":
    main()
