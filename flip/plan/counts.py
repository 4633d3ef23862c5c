"""Remember what flip.plan.counting counts. Imports no torch: what was counted before needs none."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from flip.config.schema import Params
from flip.provenance.sources import REGISTRIES, source_hash
from flip.provenance.unread import RUN, nested

MEMORY = Path(".flip/counts")  # what can be deleted at any time
COUNTING = "flip.plan.counting"


class Uncounted(Exception):
    """Say that a step reads values, of which a count has none."""


@dataclass(frozen=True)
class Weights:
    """Hold the numbers of a model: all of them, and those that are trained."""

    total: int
    trained: int


@dataclass(frozen=True)
class Encoding:
    """Hold the FLOPs of encoding one image, and one caption; 0 where there is no encoder."""

    image: int
    text: int


@dataclass(frozen=True)
class PartCost:
    """Hold what a part of a step needs: FLOPs, and bytes at most."""

    flops: int
    bytes: int


@dataclass(frozen=True)
class Counted:
    """Hold what one process's step needs: FLOPs, and bytes beside weights, gradients and optimizer state.

    part_flops: of a part of the batch, forward and backward; loss_flops: of losses over the whole batch.
    batch, features: bytes of the whole batch, and of what these losses read of it.
    kept: bytes that a part holds from the forward to the backward pass; part, loss: bytes at most during either.
    """

    part_flops: int
    loss_flops: int
    batch: int
    features: int
    kept: int
    part: int
    loss: int


Found = TypeVar("Found", Weights, Encoding, PartCost, Counted)


def way_of_training(params: Params) -> str:
    """Return what a step depends on, but for how its batch is cut, and how fast and where it runs."""
    tree = params.model_dump(mode="json", exclude=nested(RUN))
    tree["train"] |= dict.fromkeys(("batch", "batch_scale", "micro_batch", "compile", "shard_weights"))
    return json.dumps(tree, sort_keys=True)


def _key(name: str, params: Params, more: tuple) -> str:
    """Return a hash of all that a count depends on."""
    objectives = tuple(f"{package}.{one}" for package in REGISTRIES for one in sorted(params.objectives))
    facts = name, way_of_training(params), more, source_hash(COUNTING, objectives), version("torch")
    return sha256(json.dumps(facts).encode()).hexdigest()[:32]


def remembered(name: str, kind: Callable[..., Found], params: Params, *more: int | str | bool) -> Found:
    """Return what the function of that name in flip.plan.counting gives, a `kind`, from memory where it was asked
    before.

    Raises:
        Uncounted: it gave that.
    """
    found = _recall(_key(name, params, more), name, params, more)
    if "uncounted" in found:
        raise Uncounted(f"variant '{params.variant}': {found['uncounted']}")
    return kind(**found)


_known: dict[str, dict] = {}


def _recall(key: str, name: str, params: Params, more: tuple) -> dict:
    path = MEMORY / f"{key}.json"
    if key not in _known:
        with suppress(OSError, ValueError):  # not there, or half written
            _known[key] = json.loads(path.read_text())
    if key not in _known:
        _known[key] = _count(name, params, more)
        if MEMORY.parent.is_dir():  # where a workflow is at home, and nowhere else
            with suppress(OSError):  # read-only
                MEMORY.mkdir(exist_ok=True)
                path.write_text(json.dumps(_known[key]))
    return _known[key]


def _count(name: str, params: Params, more: tuple) -> dict:
    try:
        return asdict(getattr(import_module(COUNTING), name)(params, *more))
    except Uncounted as error:
        return {"uncounted": str(error)}
