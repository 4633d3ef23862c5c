"""Download one part of the synthetic URL table, as flip.download.part does, from a local server.

    python -m flip.synthetic.download --params specs/tiny/params/clip.yaml --table data/tiny/table/0000.parquet \\
        --out data/tiny/download/0000.json --spec specs/tiny/data/download.json
"""

from pathlib import Path
from typing import Any

from flip.config.schema import Params
from flip.download import part as web
from flip.synthetic.server import serving


def download(
    params: Params,
    table: Path,
    out: Path,
    drawn_by: Path | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """Serve the data set and call flip.download.part.download, with its arguments, result and errors."""
    with serving(params.world, params.download.timeout) as proxy:
        return web.download(params, table, out, drawn_by, log, proxy)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    web.main(argv, download)


if __name__ == "__main__":
    main()
