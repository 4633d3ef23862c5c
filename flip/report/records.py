"""Write records to files that other programs read: CSV and Parquet."""

from pathlib import Path

import pandas as pd

from flip.files import write_atomic


def csv(records: list[dict]) -> str:
    return pd.DataFrame(records).to_csv(index=False)


def write(out: Path, name: str, records: list[dict]) -> None:
    """Write `name`.csv and `name`.parquet to a folder; nothing if there are no records."""
    if records:
        write_atomic(out / f"{name}.csv", csv(records))
        write_atomic(out / f"{name}.parquet", pd.DataFrame(records).to_parquet(index=False))
