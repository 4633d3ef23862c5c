"""Have one part of several sources arrive: images of its URLs are downloaded, files packed, or tars looked into.

    python -m flip.download.several --params specs/mine/params/clip.yaml --table data/mine/table/0000.parquet \\
        --out data/mine/download/0000.json
"""

from pathlib import Path
from typing import Any

from flip.config.schema import Params
from flip.download import part
from flip.sources import pack, take_in
from flip.sources.several import alone, source_of


def arrive(
    params: Params, table: Path, out: Path, drawn_by: Path | None = None, log: Path | None = None
) -> dict[str, Any]:
    """Call what the part's source needs; arguments, result and errors are those of `part.download`."""
    own = alone(params, source_of(table))
    if own.source.kind == "tars":
        return take_in.take_in(own.source, table, out)
    return pack.pack(own, table, out) if own.source.kind == "files" else part.download(own, table, out, None, log)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    part.main(argv, arrive)


if __name__ == "__main__":
    main()
