"""Choose the pairs that a variant is trained on: words of captions are counted, pairs scored, the best ones kept."""

from flip.config.frozen import load
from flip.config.schema import Curation


def read_curation(path: str) -> Curation:
    """Read how the variant of frozen parameters chooses pairs.

    Raises:
        ValueError: it takes all.
    """
    params = load(path)
    if params.curation is None:
        raise ValueError(f"{path}: '{params.variant}' has no curation; it is trained on all pairs")
    return params.curation
