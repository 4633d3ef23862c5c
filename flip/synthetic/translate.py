"""Write the synthetic training captions in other languages, in place of the files flip.data.translate reads.

    python -m flip.synthetic.translate --params specs/tiny/params/clip.yaml --languages en-de-es-ru \\
        --manifest data/tiny/manifest.json --shards data/tiny/shards --out data/tiny/languages/en-de-es-ru
"""

import pyarrow as pa

from flip.config.schema import Params
from flip.data import translate
from flip.synthetic import world
from flip.synthetic.languages.all import LANGUAGES


def from_world(params: Params, languages: list[str], urls: pa.Array) -> translate.Translator:
    """Return a function that gives the caption of a URL in a language."""
    return lambda url, language: world.caption(params.world, world.row_of(url), LANGUAGES[language])


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    translate.main(argv, from_world)


if __name__ == "__main__":
    main()
