"""Define how parameters are chosen before a variant trains: a grid of values, tried by candidates, and the choice.

    scales: {tiny: {sweep: {train.base_lr: [0.002, 0.004, 0.008]}}}

`snakemake sweep` trains the candidates of every variant at one seed, evaluates them on `evaluate.validation_set`, which
no table may show, and writes chosen/<scale>/sweeps/<variant>.json. From then on params.yaml is read with what was
chosen.
"""

import json
import re
from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import Field

from flip.config.faults import ParameterError, check, must_know
from flip.config.frozen import merge
from flip.config.sections.types import Section
from flip.metrics.names import PROBE, Metric

if TYPE_CHECKING:
    from flip.config.schema import Params

# A variant trains and is evaluated on its scale's data, so that rows of a table can be compared.
SHARED = {
    "source", "world", "download", "shards", "tokenizer", "codebook", "evaluate", "bootstrap", "cost", "resources",
    "seeds", "larger", "transfer",
}  # fmt: skip
Values = dict[str, Any]  # by dotted keys


class Candidate(Section):
    """Hold what a candidate was trained with, and its score on the validation set in percent."""

    values: Values
    score: float = Field(ge=0, le=100)


class SweepChoice(Section):
    """Hold what was chosen for a variant, and from what: the content of chosen/<scale>/sweeps/<variant>.json."""

    values: Values
    metric: str
    images: int = Field(description="of the validation set", gt=0)
    seed: int
    recipe: str = Field(description="hash of all else that the candidates were trained with")
    candidates: list[Candidate] = Field(min_length=1)


def grid(params: "Params") -> dict[str, list]:
    """Return the values to try by parameter, none of a parameter whose sweep a variant has set to null."""
    return {key: values for key, values in params.sweep.items() if values is not None}


def delta(values: Values) -> dict:
    """Return values by dotted keys as a tree."""
    found: dict = {}
    for key, value in values.items():
        for name in reversed(key.split(".")):
            value = {name: value}
        found = merge(found, value)
    return found


def slug(values: Values) -> str:
    """Return a name for values: 'base-lr-4e-3'."""
    words = []
    for key, value in values.items():
        words.append(f"{key.rpartition('.')[2]}-{_short(value) if _number(value) else value}")
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def _short(number: float) -> str:
    """Return a number without what could become part of a path: 0.004 is '4e-3'."""
    digits, exponent = f"{number:e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def candidates(params: "Params") -> dict[str, Values]:
    """Return the values of every candidate by its name: all combinations of the grid."""
    tried = grid(params)
    combinations = [dict(zip(tried, values, strict=True)) for values in product(*tried.values())] if tried else []
    return {slug(values): values for values in combinations}


def with_values(params: "Params", values: Values, where: str) -> "Params":
    """Return parameters with some replaced.

    Raises:
        ParameterError: such values are not allowed.
    """
    return check(type(params), merge(params.model_dump(mode="json"), delta(values)), where)


def without(tree: dict, keys: list[str]) -> dict:
    """Return a tree without what stands at dotted keys."""
    found = dict(tree)
    for key in keys:
        first, _, rest = key.partition(".")
        if rest and isinstance(found.get(first), dict):
            found[first] = without(found[first], [rest])
        else:
            found.pop(first, None)
    return found


def recipe_hash(recipe: dict) -> str:
    return sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def metric(params: "Params") -> Metric:
    """Return what candidates are compared by: zero-shot on the validation set or, without a common space, a probe.

    Raises:
        ParameterError: the scale names no validation set, or the variant has no image tower.
    """
    where, name = f"params.yaml, variants.{params.variant}", params.evaluate.validation_set
    if name is None:
        raise ParameterError((where, "sweep: the scale names no evaluate.validation_set to compare candidates on"))
    if not params.has_image_tower:
        raise ParameterError((where, "sweep: without an image tower nothing is measured on images; set it to null"))
    if not params.aligned and name not in params.evaluate.probe:
        raise ParameterError((where, f"sweep: without a common space a probe is needed; add {name} to evaluate.probe"))
    return Metric(name) if params.aligned else Metric(name, PROBE)


def choose(params: "Params", scores: list[Candidate]) -> Values:
    """Return the values of the best candidate.

    Raises:
        ParameterError: a number among them is the smallest or the largest that was tried, so that the best may lie
            beyond.
    """
    best = max(scores, key=lambda one: one.score)
    where = f"params.yaml, variant '{params.variant}' at scale '{params.scale}'"
    faults = [(where, fault) for key in grid(params) if (fault := _at_edge(key, best, scores))]
    if faults:
        raise ParameterError(*faults)
    return best.values


def _at_edge(key: str, best: Candidate, scores: list[Candidate]) -> str | None:
    """Return what is wrong if the best value of a parameter is at an end of those tried."""
    chosen = best.values[key]
    if not _number(chosen):
        return None
    tried = sorted({one.values[key] for one in scores if _number(one.values[key])})
    if chosen not in (tried[0], tried[-1]):
        return None
    side = "smaller" if chosen == tried[0] else "larger"
    curve = ", ".join(f"{one.values[key]:g}: {one.score:.1f} %" for one in scores)
    return f"sweep.{key}: the best value, {chosen:g}, is at the edge of the grid ({curve}); add a {side} one"


def must_be_swept(params: "Params", key: str) -> None:
    """Refuse to sweep what is no parameter of a variant's own.

    Raises:
        ParameterError: there is no such key, or it is a section, or it belongs to the whole scale.
    """
    where, found = f"params.yaml, variant '{params.variant}', sweep.{key}", params
    for name in key.split("."):
        must_know([name], type(found).model_fields if isinstance(found, Section) else {}, "key", where)
        found = getattr(found, name)
    if isinstance(found, Section):
        raise ParameterError((where, "a section; name a key in it"))
    if key.partition(".")[0] in SHARED:
        raise ParameterError((where, "belongs to the whole scale; sweep what a variant may change"))
