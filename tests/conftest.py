"""Small parameters and models that the tests share."""

import copy
import os

import pytest

import flip.torchvision_operators  # noqa: F401  (before anything that imports torchvision)

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def project():
    from flip.params import read_project

    return read_project("params.yaml", "tiny")


@pytest.fixture(scope="session")
def change(project):
    """change(variant, {"model": {"patch": 16}}): a tiny variant's parameters with some replaced, checked again."""
    from flip.params import check, merge
    from flip.schema import Params

    def changed(variant="clip", delta=None):
        tree = copy.deepcopy(project.resolve(variant).model_dump(mode="json"))
        return check(Params, merge(tree, delta or {}), "test")

    return changed
