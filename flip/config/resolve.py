"""Resolve params.yaml into frozen parameters, and explain what is wrong with it."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from flip.config import consistency
from flip.config.chosen import CHOSEN, read_chosen
from flip.config.faults import Faults, ParameterError, check, must_know
from flip.config.frozen import merge
from flip.config.imported import IMPORTED, read_imported
from flip.config.roles import TestSet
from flip.config.scale import Scale
from flip.config.schema import Params
from flip.config.sections.report import Report, Table, Tradeoff
from flip.config.sections.types import Section
from flip.config.tree import read_files
from flip.metrics.names import Metric, own_name, places

One = TypeVar("One", bound=Section)


@dataclass(frozen=True)
class Project(Scale):
    """Hold params.yaml for one scale; all of it, or the part that concerns one report (`of`)."""

    @property
    def baseline(self) -> Params:
        """Return the variant of the first row of the first table, which stands for its scale where variants do not
        differ."""
        if not self.tables:
            raise ParameterError(
                f"params.yaml, tables: no table is shown at scale '{self.scale}'; add one, or its scale"
            )
        return self.variants[next(iter(self.tables.values())).variants[0]]

    @cached_property
    def reports(self) -> dict[str, Report]:
        """Return those of the scale: a report that names other scales, or whose tables are all of others, is none."""
        found = {
            name: one for name, one in self.reports_of_all_scales.items() if self.scale in (one.scales or [self.scale])
        }
        shown = {table.report for table in self.tables.values()}
        elsewhere = {table.report for table in self.tables_of_all_scales.values()} - shown
        return {name: self._led(one) for name, one in found.items() if name not in elsewhere}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Return the reports that the scale can make, by the groups that some are in."""
        found: dict[str, list[str]] = {}
        for name, one in self.reports.items():
            if one.group and name not in self.left_out:
                found.setdefault(one.group, []).append(name)
        return found

    @cached_property
    def reports_of_all_scales(self) -> dict[str, Report]:
        """Return the reports of params.yaml; names of scales in them must be known."""
        found, faults = self._checked("reports", Report), Faults()
        for name, report in found.items():
            with faults.collected():
                self._must_know("scale", report.scales or [], f"reports.{name}.scales")
        faults.raise_all()
        return found

    @cached_property
    def lacking(self) -> dict[str, str]:
        """Return what the scale's source has not and a variant needs, by the variant's name."""
        found = {
            name: one.captions.untranslated(one.source) or one.captions.unwritten(one.source)
            for name, one in self.variants.items()
        }
        return {name: fault for name, fault in found.items() if fault}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Return the reports that the scale cannot make, with the reason: a variant of theirs lacks something."""
        found = {name: [one for one in self.of(name).named if one in self.lacking] for name in self.reports}
        return {name: f"{some[0]}: {self.lacking[some[0]]}" for name, some in found.items() if some}

    def _led(self, report: Report) -> Report:
        """Return a report whose laws name their metric's set."""
        if report.scaling is None:
            return report
        scaling = report.scaling.model_copy(update={"metric": own_name(report.scaling.metric, self.primary_set)})
        return report.model_copy(update={"scaling": scaling})

    @cached_property
    def tables_of_all_scales(self) -> dict[str, Table]:
        """Return the tables of params.yaml; names in them must be known."""
        found, faults = self._checked("tables", Table), Faults()
        for name, table in found.items():
            for key, what, names in (
                ("variants", "variant", table.variants),
                ("report", "report", [table.report]),
                ("scales", "scale", table.scales or []),
            ):
                with faults.collected():
                    self._must_know(what, names, f"tables.{name}.{key}")
        faults.raise_all()
        return found

    def _checked(self, key: str, schema: type[One]) -> dict[str, One]:
        found: dict[str, One] = {}
        faults = Faults()
        for name, tree in self.tree[key].items():
            with faults.collected():
                found[name] = check(schema, tree, self.place(f"{key}.{name}"))
        faults.raise_all()
        return found

    def of(self, report: str) -> "Project":
        """Return the project with the tables, and the trade-off figure, of one report only."""
        self._must_know("report", [report], "reports")
        tables = {name: self.tree["tables"][name] for name, table in self.tables.items() if table.report == report}
        tradeoff = self.tree["tradeoff"] if self.tradeoff and self.tradeoff.report == report else None
        reports = {report: self.tree["reports"][report]}
        part = replace(self, tree=self.tree | {"reports": reports, "tables": tables, "tradeoff": tradeoff})
        for one in ("variants", "primary_set", "places", "test_sets_of_all_scales"):
            vars(part)[one] = getattr(self, one)  # resolved once for all reports
        return part

    def chain(self, variant: str) -> list[str]:
        """Return a variant, those whose training it builds on, and so on."""
        found = [variant]
        for name in found:
            found += [one for one in self.variants[name].before if one not in found]
        return found

    @cached_property
    def named(self) -> list[str]:
        """Return the variants that the tables and the figure name, and those that they build on; the baseline first."""
        curves = self.tradeoff.curves.values() if self.tradeoff else []
        lists = [[self.baseline.variant], *(table.variants for table in self.tables.values()), *curves]
        names = list(dict.fromkeys(name for names in lists for name in names))
        behind = {one for name in names for one in self.chain(name)} - set(names)
        return [*names, *sorted(behind)]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Return those of the scale, with the metrics of those test sets that it has; a table that names none of its
        sets is of other scales.

        Raises:
            ParameterError: a metric of no set, one that its set does not have, or none left but of sets that are null.
        """
        found, faults = {}, Faults()
        for name, table in self.tables_of_all_scales.items():
            if self.scale in self._scales_of(table):
                with faults.collected():
                    if stated := self.stated(name, table.metrics):
                        found[name] = self._table(name, stated)
        faults.raise_all()
        return found

    @cached_property
    def places(self) -> dict[str, str | None]:
        """Return the place of each test set of the scale by its role; None: it has none."""
        self.plain()  # which is wrong where a set is
        return places(merge(self.tree["base"], self.tree["scales"][self.scale] or {}))

    def metric(self, name: str) -> Metric:
        """Return the metric of a name, in which `primary` stands for the primary set.

        Raises:
            ValueError: it is of none of the scale's test sets.
        """
        return Metric.parse(own_name(name, self.primary_set), self.places)

    def metrics(self, table: str) -> list[Metric]:
        """Return the metrics of one of the tables, in the order of its columns."""
        return [self.metric(name) for name in self.tables[table].metrics]

    @cached_property
    def test_sets(self) -> dict[str, TestSet]:
        return {role: TestSet(role, place, role == self.primary_set) for role, place in self.places.items()}

    @cached_property
    def primary_set(self) -> str:
        return self.plain().evaluate.primary_set

    @cached_property
    def test_sets_of_all_scales(self) -> dict[str, TestSet]:
        """Return all that tables may name; a scale that is wrong has none until it is mended, which `scales` tells."""
        found: dict[str, TestSet] = {}
        for scale in self.tree["scales"]:
            with Faults().collected():
                found |= replace(self, scale=scale).test_sets
        return found | self.test_sets

    def _scales_of(self, table: Table) -> list[str]:
        """Return the scales that a table and its report are made at."""
        theirs = self.reports_of_all_scales[table.report].scales or list(self.tree["scales"])
        return [scale for scale in theirs if scale in (table.scales or theirs)]

    def stated(self, table: str, metrics: list[str]) -> list[Metric]:
        """Return those of a table's metrics whose set the scale has, or says that it has not.

        Raises:
            ParameterError: a metric of no set of any scale, or one that its set does not have.
        """
        known = self.test_sets_of_all_scales
        found = [own_name(one, self.primary_set) for one in metrics]
        consistency.metrics_must_be(found, known, self.place(f"tables.{table}.metrics"))
        return [metric for metric in (Metric.parse(one, known) for one in found) if metric.set in self.places]

    def _table(self, name: str, stated: list[Metric]) -> Table:
        metrics = [str(metric) for metric in stated if self.places[metric.set] is not None]
        tree = self.tree["tables"][name] | {"metrics": metrics}
        return check(Table, tree, self.place(f"tables.{name} at scale '{self.scale}'"))

    @cached_property
    def tradeoff(self) -> Tradeoff | None:
        if self.tree["tradeoff"] is None:
            return None
        tradeoff, faults = check(Tradeoff, self.tree["tradeoff"], self.place("tradeoff")), Faults()
        for name, variants in tradeoff.curves.items():
            with faults.collected():
                self._must_know("variant", variants, f"tradeoff.curves.{name}")
        with faults.collected():
            self._must_know("report", [tradeoff.report], "tradeoff.report")
        faults.raise_all()
        return tradeoff.model_copy(update={"metric": own_name(tradeoff.metric, self.primary_set)})

    def check(self) -> "Project":
        """Check everything that can be wrong before a job starts.

        Raises:
            ParameterError: every fault, naming the key, the value, what is allowed.
        """
        consistency.check(self)
        return self


def read_project(path: str | Path = "params.yaml", scale: str | None = None) -> Project:
    """Return params.yaml at `scale` (its own `scale` key by default), of which no more than the outline is checked.

    Raises:
        ParameterError: what `read_tree` refuses; an unknown scale.
    """
    tree, files = read_files(path)
    scale = tree["scale"] if scale is None else scale
    must_know([scale], tree["scales"], "scale", str(path))
    if CHOSEN not in tree:
        tree |= {CHOSEN: read_chosen(Path(path).parent / CHOSEN / scale)}
    if IMPORTED not in tree:
        tree |= {IMPORTED: read_imported(tree["variants"], Path(path).parent)}
    return Project(tree, scale, files)
