"""A folder as the workflow leaves it, in miniature: small data with sets of plain colours, and a variant's training."""

import shutil
from pathlib import Path

from flip.config.frozen import dump, merge, to_yaml
from flip.config.tree import read_tree
from flip.files import write_atomic
from tests.colour_sets import write_set
from tests.conftest import SMALL

SETS = {"fine": "world", "coarse": "world", "retrieval": "world"}


def small(change, variant: str, **delta):
    """A variant's parameters, small, with those three sets."""
    params = change(variant, merge(SMALL, delta))
    evaluate = params.evaluate.model_copy(update={"sets": SETS, "languages": {}, "probe": ["fine"]})
    return params.model_copy(update={"evaluate": evaluate})


def write_folder(folder: Path, small_data: Path) -> Path:
    """params.yaml and data/tiny."""
    write_atomic(folder / "params.yaml", to_yaml(read_tree("params.yaml")))
    shutil.copytree(small_data, folder / "data" / "tiny")
    tests = folder / "data" / "tiny" / "tests"
    for name in SETS:
        write_set(tests / name, retrieval=name == "retrieval", train=16 if name == "fine" else 0)
    return folder


def write_params(folder: Path, params) -> Path:
    """Frozen, as a training leaves them when it begins; gives their folder."""
    place = folder / "results" / "tiny" / params.variant / "seed-0"
    write_atomic(place / "params.yaml", dump(params))
    return place
