"""Resolve the variants of one scale: base, scale, variant, and what was chosen for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from flip.config import consistency
from flip.config.chosen import CHOSEN, SWEEPS, TIMES
from flip.config.equal_time import StepTime, schedule
from flip.config.faults import Faults, ParameterError, check, must_know
from flip.config.frozen import merge
from flip.config.imported import IMPORTED
from flip.config.resolution import at_resolution, with_first_image
from flip.config.schema import Params, is_folder
from flip.config.sweep import SHARED, delta, with_values
from flip.config.tree import Files, place

# Of train: what a step's memory and time depend on, and its result but for rounding does not.
LESS_MEMORY = ("checkpoint_activations", "micro_batch", "shard_weights")


@dataclass(frozen=True)
class Scale:
    """Hold params.yaml for one scale, and the variants there."""

    tree: dict
    scale: str
    files: Files = field(default_factory=dict)  # what of it stands in which file other than params.yaml

    def place(self, key: str) -> str:
        """Name the file that a key stands in, and the key there."""
        return place(key, self.files)

    @cached_property
    def variants(self) -> dict[str, Params]:
        """Return every variant, resolved and checked."""
        found, faults = {}, Faults()
        for name in self.tree["variants"]:
            with faults.collected():
                found[name] = self.resolve(name)
        faults.raise_all()
        for params in found.values():
            with faults.collected():
                consistency.towers_must_fit(params, found)
                consistency.teacher_must_align(params, found)
        faults.raise_all()
        return found

    @property
    def choices(self) -> dict[str, dict]:
        """Return what sweeps have chosen at this scale, by variant (flip.config.sweep.SweepChoice)."""
        return self.tree.get(CHOSEN, {}).get(SWEEPS, {})

    @property
    def times(self) -> dict[str, dict]:
        """Return how long steps take that were timed at this scale, by variant (flip.config.equal_time.StepTime)."""
        return self.tree.get(CHOSEN, {}).get(TIMES, {})

    @property
    def tuning(self) -> dict:
        """Return what the scale changes of a variant that another one starts from."""
        found = merge(self.tree["base"], self.tree["scales"][self.scale] or {}).get("tuning", {})
        if not isinstance(found, dict):
            raise ParameterError(
                f"params.yaml, tuning at scale '{self.scale}': not a mapping of keys (value: {found!r})"
            )
        return found

    def plain(self) -> Params:
        """Return the scale's own values, without any variant's."""
        where = f"params.yaml, scale '{self.scale}'"
        if "larger" in (tree := merge(self.tree["base"], self.tree["scales"][self.scale] or {})):
            must_know([tree["larger"]], self.tree["models"], "model", f"{where}, larger")
        found = self._with_deltas([], where, variant="plain")
        self._with_deltas([self.tuning], f"{where}, tuning", variant="plain")
        return found

    def resolve(self, variant: str) -> Params:
        """Resolve base <- scale <- variant <- what was chosen for it; one with `start` is that variant plus the scale's
        `tuning`.

        Raises:
            ParameterError: an unknown variant, or every fault of its parameters.
        """
        params, found = self._as_stated(variant), self.times.get(variant)
        reference = params.train.equal_time
        if reference is None or found is None or found["of"] != reference:
            return params
        values = schedule(params.train, self._as_stated(reference).train, StepTime(**found).ratio)
        return with_values(params, values, self._where(variant))

    def _where(self, variant: str) -> str:
        return f"params.yaml, variant '{variant}' at scale '{self.scale}'"

    def _as_stated(self, variant: str) -> Params:
        """Resolve a variant but for a schedule that takes another one's time."""
        self._must_know("variant", [variant], "variants")
        delta, where = self.tree["variants"][variant] or {}, self._where(variant)
        if shared := SHARED & delta.keys():
            fault = f"{', '.join(sorted(shared))} belongs to the whole scale; move it to scales.{self.scale}"
            raise ParameterError((where, fault))
        deltas = self._deltas(delta, [variant])
        tree = self._merged(deltas, where, variant)
        if delta.get("start") is not None:
            tree = with_first_image(tree, self._merged(deltas[:1], where, variant)["model"])
        return self._checked_params(tree, where, variant=variant)

    def _deltas(self, delta: dict, chain: list[str]) -> list[dict]:
        """Return what is said of the last variant of a chain of starts, after what is said of those that it builds
        on: each stage is the one before with the scale's tuning."""
        start = delta.get("start")
        if start is None:
            return [delta]
        if is_folder(start):
            return [self.tree[IMPORTED][start], self.tuning, delta]
        self._must_know("variant", [start], f"variants.{chain[-1]}.start")
        if start in chain:
            fault = f"start: {' -> '.join([*chain, start])} is a circle; let one of them begin anew"
            raise ParameterError((self._where(chain[0]), fault))
        return [*self._deltas(self.tree["variants"][start] or {}, [*chain, start]), self.tuning, delta]

    def _must_know(self, what: str, names: Iterable[object], where: str) -> None:
        must_know(names, self.tree[f"{what}s"], what, self.place(where))

    def _with_size(self, tree: dict, where: str) -> dict:
        """Return the tree with the sizes of the model that it names; a delta may name another, or change sizes one by
        one."""
        name, models = tree.get("model"), self.tree["models"]
        if isinstance(name, dict):
            return tree
        name = tree.get("larger") if name == "larger" else name  # of the scale
        must_know([name], models, "model", where)
        return tree | {"model": models[name]}

    def _with_deltas(self, deltas: list[dict], where: str, variant: str) -> Params:
        """Resolve base <- scale <- deltas."""
        return self._checked_params(self._merged(deltas, where, variant), where, variant=variant)

    def _merged(self, deltas: list[dict], where: str, variant: str) -> dict:
        """Merge base <- scale <- deltas, with the sizes of the model that they name."""
        tree = merge(self.tree["base"], self.tree["scales"][self.scale] or {})
        tree.pop("tuning", None)
        fitted = self._to_fit(tree.pop("to_fit", {})).get(variant)
        for one in ({}, *deltas, {"train": fitted} if fitted else {}):
            tree = self._with_size(merge(tree, one), where)
        tree.pop("larger", None)
        return at_resolution(tree, where)

    def _checked_params(self, tree: dict, where: str, **names: str) -> Params:
        """Return a merged tree as parameters, with what a sweep has chosen."""
        tree = merge(tree, self._chosen(tree, names["variant"]))
        return check(Params, tree | {"scale": self.scale} | names, where)

    def _to_fit(self, found: object) -> dict[str, dict]:
        """Return by which keys of `train` variants take less memory at this scale, with the same result.

        It may name variants that are not there, so that one can be deleted; the preflight refuses what does not fit.
        """
        where = f"scales.{self.scale}.to_fit"
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            fault = f"no mapping of variants to keys of train; allowed: {', '.join(LESS_MEMORY)} (value: {found!r})"
            raise ParameterError((self.place(where), fault))
        for name, keys in found.items():
            must_know(keys, LESS_MEMORY, "key", self.place(f"{where}.{name}"))
        return found

    def _chosen(self, tree: dict, variant: str) -> dict:
        """Return what a sweep has chosen for a variant, of the parameters that it still sweeps."""
        values, swept = self.choices.get(variant, {}).get("values", {}), tree.get("sweep")
        return delta({key: value for key, value in values.items() if isinstance(swept, dict) and swept.get(key)})
