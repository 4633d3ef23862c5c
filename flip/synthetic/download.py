"""Download one part of the world's URL table, as flip.data.download does, from a server of the world.

    python -m flip.synthetic.download --params specs/tiny/params/clip.yaml --table data/tiny/table/0000.parquet \\
        --out data/tiny/download/0000.json --spec specs/tiny/data/download.json
"""

from flip.config.schema import Params
from flip.data import download as web
from flip.synthetic.server import serving


def download(params: Params, *places, **options) -> dict:
    """Do, and raise, what flip.data.download.download does, with the world served meanwhile."""
    with serving(params.world, params.download.timeout) as proxy:
        return web.download(params, *places, **options, proxy=proxy)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    web.main(argv, download)


if __name__ == "__main__":
    main()
