"""Resolve params.yaml into frozen parameters, and explain what is wrong with it.

python -m flip.params show --scale tiny --variant flip-50
"""

import argparse
import difflib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from flip.files import read_planned
from flip.metrics import places, set_of, untransferable
from flip.origins import misfit
from flip.schema import Params, Report, Section, Table, Tradeoff

# Two results are the same experiment when all of this agrees.
IDENTITY = {"variant", "resources"}
TOP = {"scale", "base", "models", "scales", "variants", "reports", "tables", "tradeoff"}
# A variant trains and is evaluated on its scale's data, so that rows of a table can be compared.
SHARED = {
    "source", "world", "download", "shards", "tokenizer", "codebook", "evaluate", "bootstrap", "cost", "resources",
    "seeds", "larger", "transfer",
}  # fmt: skip


class ParameterError(ValueError):
    """params.yaml, or a frozen copy, is not what the schema asks for."""


def merge(base, delta):
    """`base` with the keys of `delta` replaced; mappings are merged key by key."""
    if not (isinstance(base, dict) and isinstance(delta, dict)):
        return delta
    return base | {key: merge(base.get(key), value) for key, value in delta.items()}


def nearest(name, known) -> str:
    """A sentence that lists what is allowed, the closest name first."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(sorted(map(str, known)))}"


def _must_know(names, known, what: str, where: str) -> None:
    for name in names:
        if name not in known:
            raise ParameterError(f"{where}: unknown {what} '{name}'; {nearest(name, known)}")


def _known_keys(schema, location):
    """Field names of the section at `location`; steps that are no field (list items) are skipped."""
    for key in location:
        field = schema.model_fields.get(key) if isinstance(schema, type) else None
        if field is None:
            continue
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        schema = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), schema)
    return schema.model_fields


def explain(error: ValidationError, schema, where: str) -> str:
    """Each fault as a line: key, value, what is allowed."""
    lines = []
    for fault in error.errors():
        path = fault["loc"]
        key = f"{'.'.join(map(str, path))}: " if path else ""  # some checks are about all parameters together
        if fault["type"] == "extra_forbidden":
            lines.append(f"{key}unknown key; {nearest(path[-1], _known_keys(schema, path[:-1]))}")
        elif fault["type"] == "missing":
            lines.append(f"{key}missing; add it to params.yaml")
        else:
            value = "" if isinstance(fault["input"], dict) else f" (value: {fault['input']!r})"
            lines.append(f"{key}{fault['msg'].removeprefix('Value error, ')}{value}")
    return f"{where}:\n  " + "\n  ".join(lines)


def check(schema: type[Section], tree: dict, where: str):
    """`tree` as a `schema`; JSON's strict mode takes lists for tuples, but no string for a number."""
    try:
        return TypeAdapter(schema).validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ParameterError(explain(error, schema, where)) from None


@dataclass(frozen=True)
class Project:
    """params.yaml as it stands, for one scale; whole, or as much of it as concerns one report (`of`)."""

    tree: dict
    scale: str

    @cached_property
    def variants(self) -> dict[str, Params]:
        """Every variant, resolved and checked."""
        found = {name: self.resolve(name) for name in self.tree["variants"]}
        for params in found.values():
            self._must_fit(params, found)
        return found

    @property
    def baseline(self) -> Params:
        """The first row of the first table: it stands for its scale where variants do not differ."""
        return self.variants[next(iter(self.tables.values())).variants[0]]

    @cached_property
    def reports(self) -> dict[str, Report]:
        trees = self.tree["reports"].items()
        return {name: check(Report, tree, f"params.yaml, reports.{name}") for name, tree in trees}

    def of(self, report: str) -> "Project":
        """With the tables, and the trade-off figure, of one report only."""
        self._must_know("report", [report], "reports")
        tables = {name: self.tree["tables"][name] for name, table in self.tables.items() if table.report == report}
        tradeoff = self.tree["tradeoff"] if self.tradeoff and self.tradeoff.report == report else None
        reports = {report: self.tree["reports"][report]}
        part = Project(self.tree | {"reports": reports, "tables": tables, "tradeoff": tradeoff}, self.scale)
        vars(part)["variants"] = self.variants  # resolved once for all reports
        return part

    def chain(self, variant: str) -> list[str]:
        """A variant, those whose training it builds on, and so on."""
        found = [variant]
        for name in found:
            found += [one for one in self.variants[name].before if one not in found]
        return found

    @cached_property
    def named(self) -> list[str]:
        """Variants that the tables and the figure name, and those that they build on; the baseline first."""
        curves = self.tradeoff.curves.values() if self.tradeoff else []
        lists = [[self.baseline.variant], *(table.variants for table in self.tables.values()), *curves]
        names = list(dict.fromkeys(name for names in lists for name in names))
        behind = {one for name in names for one in self.chain(name)} - set(names)
        return [*names, *sorted(behind)]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Those of the scale, with the metrics of those test sets that it has."""
        tables = {name: self._table(name, tree) for name, tree in self.tree["tables"].items()}
        for name, table in tables.items():
            self._must_know("variant", table.variants, f"tables.{name}.variants")
            self._must_know("report", [table.report], f"tables.{name}.report")
        return {name: table for name, table in tables.items() if self.scale in (table.scales or [self.scale])}

    @cached_property
    def places(self) -> dict[str, str | None]:
        return places(merge(self.tree["base"], self.tree["scales"][self.scale] or {}))

    def _table(self, name: str, tree: dict) -> Table:
        table = check(Table, tree, f"params.yaml, tables.{name}")
        self._must_know("scale", table.scales or [], f"tables.{name}.scales")
        if table.scales and self.scale not in table.scales:
            return table
        try:
            metrics = [metric for metric in table.metrics if self.places[set_of(metric, self.places)] is not None]
        except ValueError as error:
            raise ParameterError(f"params.yaml, tables.{name}.metrics: {error}") from None
        return check(Table, tree | {"metrics": metrics}, f"params.yaml, tables.{name} at scale '{self.scale}'")

    @cached_property
    def tradeoff(self) -> Tradeoff | None:
        if self.tree["tradeoff"] is None:
            return None
        tradeoff = check(Tradeoff, self.tree["tradeoff"], "params.yaml, tradeoff")
        for name, variants in tradeoff.curves.items():
            self._must_know("variant", variants, f"tradeoff.curves.{name}")
        self._must_know("report", [tradeoff.report], "tradeoff.report")
        return tradeoff

    def _must_know(self, what: str, names, where: str) -> None:
        _must_know(names, self.tree[f"{what}s"], what, f"params.yaml, {where}")

    def _must_fit(self, params: Params, variants: dict[str, Params]):
        """Whether the variants whose towers this one begins with have such towers."""
        for side in ("image", "text"):
            name, key = getattr(params, f"{side}_tower").variant, f"variants.{params.variant}.{side}_tower.weights"
            if name is None:
                continue
            self._must_know("variant", [name], key)
            if fault := misfit(params, side, variants[name]):
                raise ParameterError(f"params.yaml, {key}: {fault}")

    def _must_read_codes_alike(self, params: Params) -> None:
        """A scale has one image tokenizer, for the pictures and patches of its baseline."""
        size, own = ((one.model.image, one.model.patch) for one in (self.baseline, params))
        if params.flava.reads_codes and own != size:
            raise ParameterError(
                f"params.yaml, variant '{params.variant}': flava.mim and flava.mmm_image read the codes of the scale's "
                f"image tokenizer, made for model.image = {size[0]}, model.patch = {size[1]}; not {own[0]}, {own[1]}"
            )

    def _with_size(self, tree: dict, where: str) -> dict:
        """The tree with the sizes of the model that it names; a delta may name another, or change sizes one by one."""
        name, models = tree.get("model"), self.tree["models"]
        if isinstance(name, dict):
            return tree
        name = tree.get("larger") if name == "larger" else name  # of the scale
        _must_know([name], models, "model", where)
        return tree | {"model": models[name]}

    def resolve(self, variant: str) -> Params:
        """base <- scale <- variant; one with `start` is that variant plus the scale's `tuning`."""
        self._must_know("variant", [variant], "variants")
        delta = dict(self.tree["variants"][variant] or {})
        where = f"params.yaml, variant '{variant}' at scale '{self.scale}'"
        if shared := SHARED & delta.keys():
            raise ParameterError(
                f"{where}: {', '.join(sorted(shared))} belongs to the whole scale; move it to scales.{self.scale}"
            )
        tree = merge(self.tree["base"], self.tree["scales"][self.scale] or {})
        tuning, deltas = tree.pop("tuning", {}), [delta]
        if start := delta.get("start"):
            self._must_know("variant", [start], f"variants.{variant}.start")
            if "start" in (self.tree["variants"][start] or {}):
                raise ParameterError(f"{where}: start '{start}' is itself tuned; name a variant that is not")
            deltas = [self.tree["variants"][start] or {}, tuning, delta]
        for one in ({}, *deltas):
            tree = self._with_size(merge(tree, one), where)
        tree.pop("larger", None)
        return check(Params, tree | {"scale": self.scale, "variant": variant}, where)

    def check(self) -> "Project":
        """Everything that can be wrong before a job starts.

        Raises:
            ParameterError: naming the key, the value, what is allowed.
        """
        seen = {}
        for name, params in self.variants.items():
            if (identity := params.model_dump_json(exclude=IDENTITY)) in seen:
                raise ParameterError(
                    f"params.yaml, variants: '{seen[identity]}' and '{name}' resolve to the same parameters; "
                    "remove one, and name the other in the tables"
                )
            seen[identity] = name
            self._must_read_codes_alike(params)
        for name, report in self.reports.items():
            if not (tables := self.of(name).tables):
                raise ParameterError(f"params.yaml, reports.{name}: no table names it; give it one, or remove it")
            if fault := report.unmeasured(tables):
                raise ParameterError(f"params.yaml, reports.{name}.{fault}")
        if fault := untransferable(self):
            raise ParameterError(f"params.yaml, {fault}")
        return self


def read_project(path="params.yaml", scale: str | None = None) -> Project:
    """params.yaml at `scale` (its own `scale` key by default), not yet checked.

    Raises:
        ParameterError: unknown or missing top-level keys, unknown scale.
    """
    tree = yaml.load(Path(path).read_text(), yaml.CSafeLoader) or {}
    _must_know(tree, TOP, "key", str(path))
    for key in TOP - tree.keys():
        raise ParameterError(f"{path}: missing key '{key}'")
    scale = scale or tree["scale"]
    _must_know([scale], tree["scales"], "scale", str(path))
    return Project(tree, scale)


def load(path) -> Params:
    """Frozen parameters from a file that holds what `dump` gives."""
    return check(Params, yaml.load(read_planned(path), yaml.CSafeLoader), str(path))


def to_yaml(tree: dict) -> str:
    """In libyaml, which is ten times as fast as Python: every call of Snakemake writes all variants."""
    return yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False)


def dump(params: Params) -> str:
    return to_yaml(params.model_dump(mode="json"))


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m flip.params", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["show"], help="print a variant's parameters")
    parser.add_argument("--params", default="params.yaml", help="default: params.yaml")
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    parser.add_argument("--variant", required=True)
    options = parser.parse_args(argv)
    try:
        print(dump(read_project(options.params, options.scale).resolve(options.variant)), end="")
    except ParameterError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
