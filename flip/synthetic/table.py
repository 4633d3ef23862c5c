"""Write the URL table of the synthetic data set as flip.sources.table does from files: filtered, sampled, in parts.

python -m flip.synthetic.table --params specs/tiny/params/clip.yaml --out-folder data/tiny/table
"""

from itertools import islice

import pyarrow as pa

from flip.config.schema import Params
from flip.sources import table
from flip.sources.columns import require_columns
from flip.synthetic import world


def batches(params: Params) -> table.Batches:
    """Yield the rows of the synthetic data set as tables with the source's columns, in order.

    Raises:
        ValueError: the source's filters need a column that the synthetic data set does not have.
    """
    names = [params.source.url_column, params.source.caption_column]
    require_columns(params.source, "the world's URL table", names)
    rows = world.urls(params.world)
    while chunk := list(islice(rows, table.BATCH)):
        yield pa.table(list(zip(*chunk, strict=True)), names=names)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    table.main(argv, batches)


if __name__ == "__main__":
    main()
